//! Connections: accepted while there is room, ended when a client takes too long.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::App;
use super::guard::Counted;
use super::patience::Patient;

/// Bytes of a connection's buffer: headers are not longer.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// How long requests that are being served may take once the server ends.
const GRACE: Duration = Duration::from_secs(5);
/// Pause after a failure to accept, such as too many open files.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Serves until `ended` says so, then lets requests under way be answered.
pub(super) async fn serve(
    (listener, acceptor): (TcpListener, Option<TlsAcceptor>),
    router: Router,
    app: Arc<App>,
    mut ended: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(app.http.connections_max.get()));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            _ = ended.wait_for(|ended| *ended) => break,
        };
        let (stream, _, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "connection not accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        // Answers are small and wanted at once.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "connection without TCP_NODELAY");
        }
        let counted = Counted::one(&app.metrics.connections);
        let patience = app.http.idle_timeout;
        let stream = Patient::new(stream, patience);
        let (router, watcher, acceptor) = (router.clone(), graceful.watcher(), acceptor.clone());
        tokio::spawn(async move {
            let _held = (permit, counted);
            match acceptor {
                None => talk(stream, router, patience, watcher).await,
                Some(acceptor) => match tokio::time::timeout(patience, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => talk(stream, router, patience, watcher).await,
                    Ok(Err(error)) => tracing::debug!(%error, "connection without TLS"),
                    Err(_) => tracing::debug!("a client took too long to agree on TLS"),
                },
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::debug!("connections were cut off at the end");
    }
}

/// Answers the requests of a connection.
async fn talk<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    router: Router,
    patience: Duration,
    watcher: Watcher,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = watcher.watch(connection).await {
        // Clients that go away or take too long are no news.
        tracing::debug!(%error, "connection ended");
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, permit))
}
