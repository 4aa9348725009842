//! The search page in a real browser: Chromium without a window. `FRESHET_CHROMIUM` names one; else one that is installed is
//! taken, which there must be on CI. Pictures are left in the folder `FRESHET_SCREENSHOTS`, for eyes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use freshet_tests::drive::LIMIT;
use freshet_tests::http::request;
use freshet_tests::site::Site;
use serde_json::{Value, json};

/// The browser, if there is one.
fn browser() -> Option<String> {
    let named = std::env::var("FRESHET_CHROMIUM").ok();
    let works = |name: &str| {
        let version =
            Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    };
    let installed = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| works(name));
    let browser = named.or(installed.map(str::to_owned));
    assert!(browser.is_some() || std::env::var_os("CI").is_none(), "no Chromium: scripts/setup.sh chromium");
    if browser.is_none() {
        eprintln!("skipped: no Chromium");
    }
    browser
}

/// Runs the browser on a page, with a profile that nobody had before; what it prints.
fn browse(browser: &str, arguments: &[&str], address: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(arguments)
        .arg(address)
        .stderr(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{browser}: {:?}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// The page as it stands once its scripts have done their work. Time in the page runs as fast as it can.
fn look(browser: &str, address: &str) -> String {
    browse(browser, &["--virtual-time-budget=4000", "--dump-dom"], address)
}

/// A picture of the page, `size` wide and high; the colours are those of a dark or a light system.
fn picture(browser: &str, address: &str, name: &str, size: &str, dark: bool) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("FRESHET_SCREENSHOTS").map(PathBuf::from);
    let path = kept.as_deref().unwrap_or(folder.path()).join(format!("{name}.png"));
    let scheme = format!("--blink-settings=preferredColorScheme={}", u8::from(!dark));
    let (file, size) = (format!("--screenshot={}", path.display()), format!("--window-size={size}"));
    browse(browser, &["--virtual-time-budget=4000", &scheme, &file, &size], address);
    std::fs::read(path).unwrap()
}

/// What stands in the element with an id, up to the next element with one.
fn part<'a>(page: &'a str, id: &str) -> &'a str {
    let begin = page.find(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no {id} in {page}"));
    let rest = &page[begin + 5..];
    rest.split(" id=\"").next().unwrap_or(rest)
}

fn documents() -> Value {
    json!([
        {"id": "a", "text": "the harbour has <b>berths</b>", "stars": 3, "city": "Split"},
        {"id": "b", "text": "invoice and refund", "stars": 1, "city": "Bristol"},
        {"id": "c", "text": "a berth of the ship", "stars": 2, "city": "Split"},
    ])
}

#[test]
fn the_page_asks_filters_explains_and_says_what_is_wrong() {
    let Some(browser) = browser() else { return };
    let site = Site::start(|_| {});
    site.documents(&documents());
    let look = |target: &str| look(&browser, &format!("http://{}{target}", site.address()));

    let begin = look("/");
    assert!(part(&begin, "message").contains("Ask something"));
    assert!(part(&begin, "pipeline-text").contains("documents"), "{}", part(&begin, "pipeline-text"));

    let found = look("/?q=berth&plan=default");
    assert!(part(&found, "summary").contains("3 hits in"), "{}", part(&found, "summary"));
    assert!(part(&found, "as-of").contains("Reflects every document up to offset"));
    // The question's words in other forms, too; what a document holds is text and never markup.
    assert!(part(&found, "hits").contains("&lt;b&gt;<mark>berths</mark>"), "{}", part(&found, "hits"));
    assert!(part(&found, "hits").contains("aria-pressed=\"false\""));
    let flow = part(&found, "flow");
    for column in ["bm25", "colbert", "fusion"] {
        assert!(flow.contains(&format!(">{column}</text>")), "{flow}");
    }
    assert_eq!(flow.matches("class=\"trail\"").count(), 3);

    let filtered = look("/?q=berth&f=%5B%22city%22%2C%22Split%22%5D");
    assert!(part(&filtered, "summary").contains("2 hits in"), "{}", part(&filtered, "summary"));
    assert!(part(&filtered, "filters").contains("Remove the filter city is Split"));
    assert!(part(&filtered, "hits").contains("aria-pressed=\"true\""));

    let one = look("/?q=berth&plan=bm25");
    assert!(part(&one, "moved-hint").contains("one stage"), "{}", part(&one, "moved-hint"));

    let nothing = look("/?q=berth&f=%5B%22city%22%2C%22Atlantis%22%5D");
    assert!(part(&nothing, "message").contains("Nothing found"));

    let wrong = look("/?q=berth&f=%5B%22%22%2C1%5D");
    assert!(
        part(&wrong, "message").contains("This could not be answered (invalid_value)"),
        "{}",
        part(&wrong, "message")
    );

    let docs = look("/docs");
    assert!(docs.matches("class=\"route\"").count() >= 10, "{docs}");
    site.finish();
}

/// A server before the server, which never answers a query. The page waits for a picture that comes when it has waited for
/// its answer for a while, so that the browser looks at it then.
struct Slow {
    address: SocketAddr,
    /// Held as long as queries are.
    _end: Sender<()>,
}

/// How long the picture takes after the query: longer than the page takes to say that the server is busy.
const LATER: Duration = Duration::from_secs(4);

impl Slow {
    fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (end, ended) = channel();
        let (asks, asked) = channel();
        let (ended, asked) = (Arc::new(Mutex::new(ended)), Arc::new(Mutex::new(asked)));
        // Ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (asks, asked, ended) = (asks.clone(), Arc::clone(&asked), Arc::clone(&ended));
                std::thread::spawn(move || Self::serve(stream, server, &asks, &asked, &ended));
            }
        });
        Self { address, _end: end }
    }

    fn serve(
        mut stream: TcpStream,
        server: SocketAddr,
        asks: &Sender<()>,
        asked: &Mutex<Receiver<()>>,
        ended: &Mutex<Receiver<()>>,
    ) {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                // A connection that was opened and not needed.
                _ => return,
            }
        }
        let head = String::from_utf8(head).unwrap();
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        if method == "POST" {
            asks.send(()).unwrap();
            // Never: the other end is dropped with the test.
            let _ = ended.lock().unwrap().recv();
            return;
        }
        if target == "/later" {
            let asked = asked.lock().unwrap();
            asked.recv_timeout(LIMIT).unwrap();
            // Time is what is tested here, and it is the browser's.
            assert!(asked.recv_timeout(LATER).is_err(), "asked once");
        }
        let answer = request(server, method, target, &[], b"");
        let body = answer.body.replace("</main>", "</main><img src=\"/later\" alt=\"\">");
        let kind = answer.headers.get("content-type").cloned().unwrap_or_default();
        let head = format!(
            "HTTP/1.1 {} -\r\ncontent-type: {kind}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            answer.status,
            body.len()
        );
        // A browser that has seen enough closes.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
    }
}

#[test]
fn the_page_says_that_it_still_waits() {
    let Some(browser) = browser() else { return };
    let site = Site::start(|_| {});
    let slow = Slow::before(site.address());
    let page = browse(&browser, &["--dump-dom"], &format!("http://{}/?q=berth", slow.address));
    assert!(part(&page, "summary").contains("Still searching"), "{}", part(&page, "summary"));
    assert!(part(&page, "results").contains("aria-busy=\"true\""), "{}", part(&page, "results"));
    assert_eq!(part(&page, "message").matches("class=\"ghost\"").count(), 3);
    site.finish();
}

#[test]
fn the_page_has_two_colour_schemes_and_fits_a_phone() {
    let Some(browser) = browser() else { return };
    let site = Site::start(|_| {});
    site.documents(&documents());
    let shot = |target: &str, name: &str, size: &str, dark| {
        let address = format!("http://{}{target}", site.address());
        let bytes = picture(&browser, &address, name, size, dark);
        assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 5_000, "{name}: {} bytes", bytes.len());
        // Width of the picture, which stands in its header.
        (u32::from_be_bytes(bytes[16..20].try_into().unwrap()), bytes)
    };
    let found = "/?q=berth&plan=default";
    let (light, dark) = (shot(found, "light", "1280,900", false), shot(found, "dark", "1280,900", true));
    assert_eq!((light.0, dark.0), (1280, 1280));
    assert_ne!(light.1, dark.1, "a dark system gets a dark page");
    for (target, name) in [(found, "phone"), ("/", "phone-begin"), ("/docs", "phone-docs")] {
        assert_eq!(shot(target, name, "500,900", true).0, 500, "{name}");
    }
    shot("/?q=berth&f=%5B%22city%22%2C%22Atlantis%22%5D", "empty", "1280,900", false);
    shot("/?q=berth&f=%5B%22%22%2C1%5D", "error", "1280,900", false);
    shot("/dataflow", "dataflow", "1280,900", true);
    site.finish();
}
