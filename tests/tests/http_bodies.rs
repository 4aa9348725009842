//! The bound on the bodies of all requests together, over real connections.

use std::io::Write;

use freshet_tests::drive::until;
use freshet_tests::http::{connect, read, request};
use freshet_tests::site::Site;

#[test]
fn bodies_of_all_requests_have_a_bound_together() {
    let site = Site::start(|http| {
        http.body_bytes_max = 1000.try_into().unwrap();
        http.bodies_bytes_max = 1500.try_into().unwrap();
    });
    let query = br#"{"text": "berth"}"#;
    // One that has said how long it will be, and one that sends pieces without saying how many.
    let mut told = connect(site.address());
    told.write_all(
        b"POST /api/query HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 900\r\n\r\n{",
    )
    .unwrap();
    let mut pieces = connect(site.address());
    let head =
        b"POST /api/query HTTP/1.1\r\nhost: h\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    pieces.write_all(head).unwrap();
    pieces.write_all(format!("1f4\r\n{}\r\n", " ".repeat(500)).as_bytes()).unwrap();
    let held = || {
        let metrics = site.get("/metrics").body;
        let line = metrics.lines().find(|line| line.starts_with("freshet_http_bodies_bytes"));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).unwrap()
    };
    until(|| held() == 1400);
    // There is room for a small one, and none for one that is larger.
    assert_eq!(request(site.address(), "POST", "/api/query", &[], query).status, 200);
    let refused = request(site.address(), "POST", "/api/query", &[], &[b' '; 101]);
    assert_eq!((refused.status, refused.headers["retry-after"].as_str()), (503, "1"));
    assert_eq!(refused.json()["error"]["code"], "overloaded");
    pieces.write_all(format!("c8\r\n{}\r\n", " ".repeat(200)).as_bytes()).unwrap();
    let refused = read(&mut pieces);
    assert_eq!((refused.status, refused.headers["retry-after"].as_str()), (503, "1"));
    // What has ended holds nothing.
    until(|| held() == 900);
    told.write_all(&[b' '; 899]).unwrap();
    assert_eq!(read(&mut told).status, 400);
    until(|| held() == 0);
    assert_eq!(request(site.address(), "POST", "/api/query", &[], query).status, 200);
    site.finish();
}
