#!/usr/bin/env bash
# One Apache Kafka node (KRaft, no ZooKeeper, no container) on 127.0.0.1, for tests and for trying things out.
#
#   scripts/kafka.sh start DIR PORT [BROKERS]    starts it in the background; returns once it answers; prints its address
#   scripts/kafka.sh stop DIR                    ends it
#   scripts/kafka.sh run DIR PORT                runs it in the foreground, until Ctrl-C
#
# DIR keeps its data, log and process id; PORT + 1 is taken as well, by the controller. With BROKERS of 2 or more the
# controller is a process of its own, in DIR/controller; broker N is in DIR/N, on PORT + 10 (N - 1), and there are two
# replicas of Kafka's own topics. KAFKA_PROPERTIES may name a file of properties that stand over the ones used here. The jars come from
# `scripts/setup.sh kafka`. Kafka's own tools run from them too, for example
#   java -cp 'vendor/kafka/lib/*' org.apache.kafka.tools.TopicCommand --bootstrap-server 127.0.0.1:PORT --list
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
jars=${KAFKA_LIB:-$here/../vendor/kafka/lib}
start_seconds_max=60
stop_seconds_max=20
# Any 16 bytes will do: a cluster of one meets no other.
cluster_id=RnJlc2hldFRlc3RLYWZrYQ
# Start time counts more than peak speed: one compiler stage, the simplest collector.
java_options=(-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto -XX:-UsePerfData -cp "$jars/*"
    -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.showDateTime=true
    -Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info)

say() { echo "kafka: $*" >&2; }
fail() { say "$*"; exit 1; }
usage() { sed -n '4,6s/^#   //p' "${BASH_SOURCE[0]}" >&2; exit 2; }

# The broker of this folder, if it lives: a stale file must not name someone else's process.
running() {
    pid=$(cat "$dir/kafka.pid" 2>/dev/null) && kill -0 "$pid" 2>/dev/null &&
        tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF "$dir/server.properties"
}

# Asks for the versions of the protocol, as every client does first, and waits for the answer's length.
answers() {
    exec 3<>"/dev/tcp/127.0.0.1/$port" || return 1
    printf '\0\0\0\12\0\22\0\0\0\0\0\1\377\377' >&3
    [ "$(timeout 2 head -c 4 <&3 | wc -c)" = 4 ]
}

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Writes the settings of the node in $dir, and the first time its storage: of a `single` node, a `controller` or a `broker`.
prepare() {
    local kind=$1 id=$2 format=--standalone
    if ! command -v java >/dev/null || [ ! -d "$jars" ]; then
        fail "no Java or no jars: run \`scripts/setup.sh kafka\` first"
    fi
    running && fail "already running in $dir (process $pid)"
    local taken ports=("$port" "$controller")
    [ "$kind" != controller ] || ports=("$controller")
    [ "$kind" != broker ] || ports=("$port")
    for taken in "${ports[@]}"; do
        listening "$taken" && fail "port $taken is taken"
    done
    mkdir -p "$dir"
    local settings=$dir/server.properties
    local fill="s|@PORT@|$port|g; s|@CONTROLLER_PORT@|$controller|g; s|@DATA@|$dir/data|g"
    sed -e "$fill" "$here/kafka/server.properties" >"$settings"
    if [ "$kind" = controller ]; then
        sed -i -e '/^advertised.listeners=/d; /^inter.broker.listener.name=/d' "$settings"
        printf '%s\n' process.roles=controller "node.id=$id" "listeners=CONTROLLER://127.0.0.1:$controller" >>"$settings"
    elif [ "$kind" = broker ]; then
        printf '%s\n' process.roles=broker "node.id=$id" "listeners=PLAINTEXT://127.0.0.1:$port" \
            {offsets.topic,transaction.state.log,default}.replication.factor=2 >>"$settings"
        format=--no-initial-controllers
    fi
    if [ "$kind" != controller ] && [ -n "${KAFKA_PROPERTIES:-}" ]; then
        sed -e "$fill" "$KAFKA_PROPERTIES" >>"$settings"
    fi
    [ -e "$dir/data/meta.properties" ] ||
        java -Xmx64m "${java_options[@]}" kafka.tools.StorageTool format "$format" \
            --cluster-id "$cluster_id" --config "$settings" >"$dir/format.log" 2>&1 ||
        { cat "$dir/format.log" >&2; fail "could not write the storage in $dir/data"; }
}

broker=(java -Xms128m -Xmx384m "${java_options[@]}" kafka.Kafka)

# Starts the node in $dir in the background.
launch() {
    setsid "${broker[@]}" "$dir/server.properties" >"$dir/kafka.log" 2>&1 </dev/null &
    pid=$!
    echo "$pid" >"$dir/kafka.pid"
}

# Waits until the node that was launched last has started, and answers on its port if it has one.
wait_for() {
    local kind=$1 log=$dir/kafka.log tries=$((start_seconds_max * 10))
    until grep -q 'Kafka Server started' "$log" && { [ "$kind" = controller ] || (answers) 2>/dev/null; }; do
        kill -0 "$pid" 2>/dev/null || { tail -n 20 "$log" >&2; fail "ended while it started; its log is $log"; }
        ((tries--)) || { stop; fail "did not answer within $start_seconds_max s; its log is $log"; }
        sleep 0.1
    done
}

start() {
    if ((brokers == 1)); then
        prepare single 1
        launch
        wait_for single
        echo "127.0.0.1:$port"
        return
    fi
    local all=$dir first=$port addresses=() number
    broker[1]=-Xms64m
    broker[2]=-Xmx256m
    dir=$all/controller
    prepare controller 100
    launch
    wait_for controller
    for ((number = 1; number <= brokers; number++)); do
        dir=$all/$number port=$((first + 10 * (number - 1)))
        prepare broker "$number"
        launch
        addresses+=("127.0.0.1:$port")
    done
    for ((number = 1; number <= brokers; number++)); do
        dir=$all/$number port=$((first + 10 * (number - 1)))
        running || fail "broker $number ended while it started; its log is $dir/kafka.log"
        wait_for broker
    done
    (IFS=, && echo "${addresses[*]}")
}

# Ends the nodes below $dir, the controller last: brokers take leave of it.
stop() {
    local all=$dir
    for dir in "$all" "$all"/[0-9]* "$all/controller"; do
        [ -e "$dir/kafka.pid" ] || continue
        if running; then
            kill "$pid"
            local tries=$((stop_seconds_max * 10))
            while kill -0 "$pid" 2>/dev/null; do
                ((tries--)) || { say "does not end by itself: killing it"; kill -9 "$pid"; break; }
                sleep 0.1
            done
        fi
        rm -f "$dir/kafka.pid"
    done
}

[ $# -ge 2 ] || usage
action=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)
port=${3:-}
brokers=${4:-1}
[[ $brokers =~ ^[1-9]$ ]] || usage
controller=$((${port:-0} + 1))
case $action in
    start | run) if ! [[ $port =~ ^[0-9]{1,5}$ ]] || ((port == 0 || port >= 65535)); then usage; fi ;;
    stop) ;;
    *) usage ;;
esac
case $action in
    start | stop) "$action" ;;
    run)
        prepare single 1
        say "listening on 127.0.0.1:$port, data in $dir"
        exec "${broker[@]}" "$dir/server.properties"
        ;;
esac
