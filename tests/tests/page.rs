//! The search page in a real browser: Chromium without a window, where `FRESHET_CHROMIUM` names one.

use std::process::{Command, Stdio};

use freshet_tests::site::Site;
use serde_json::json;

/// The page as it stands once its scripts have done their work. Time in the page runs as fast as it can.
fn look(browser: &str, address: &str) -> String {
    let profile = tempfile::tempdir().unwrap();
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=4000", "--dump-dom"]);
    command.arg(format!("--user-data-dir={}", profile.path().display())).arg(address);
    let output = command.stderr(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{browser}: {:?}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// What stands in the element with an id, up to the next element with one.
fn part<'a>(page: &'a str, id: &str) -> &'a str {
    let begin = page.find(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no {id} in {page}"));
    let rest = &page[begin + 5..];
    rest.split(" id=\"").next().unwrap_or(rest)
}

#[test]
fn the_page_asks_filters_explains_and_says_what_is_wrong() {
    let Ok(browser) = std::env::var("FRESHET_CHROMIUM") else {
        eprintln!("skipped: FRESHET_CHROMIUM names no browser");
        return;
    };
    let site = Site::start(|_| {});
    let documents = json!([
        {"id": "a", "text": "the harbour has <b>berths</b>", "stars": 3, "city": "Split"},
        {"id": "b", "text": "invoice and refund", "stars": 1, "city": "Bristol"},
        {"id": "c", "text": "a berth of the ship", "stars": 2, "city": "Split"},
    ]);
    site.documents(&documents);
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
