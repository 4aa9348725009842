//! Answers as tables for people: where each hit stood in every stage, and how it moved.
//!
//! A fusion moves a hit against its best rank in any leg, a rerank against the fusion, or against the best rank in any leg
//! where there is none.

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use freshet_schemas::{Answer, Point};

/// Ranks of the hits in one stage.
struct Stage {
    name: String,
    /// Per hit its rank, from 1, and score.
    places: Vec<Option<(u32, f64)>>,
    /// Per hit its rank before, for a stage that moves hits.
    before: Option<Vec<Option<u32>>>,
}

/// What an answer found: the count, the groups or the hits that were asked for. `colour` for a terminal.
pub fn found(answer: &Answer, colour: bool) -> String {
    if let Some(count) = answer.count {
        return format!("{count} documents");
    }
    let groups = answer.groups.iter().flatten().map(|group| {
        let hits = Answer { points: group.hits.clone(), groups: None, ..answer.clone() };
        format!("{}\n{}", group.id, answer_table(&hits, colour))
    });
    let groups: Vec<String> = groups.collect();
    match (groups.is_empty(), answer.points.is_empty()) {
        (false, _) => groups.join("\n"),
        (true, true) => "no document matches".to_owned(),
        (true, false) => answer_table(answer, colour),
    }
}

/// The table of ranks per stage. `colour` for a terminal.
pub fn answer_table(answer: &Answer, colour: bool) -> String {
    let stages = stages(&answer.points);
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    if !colour {
        table.force_no_tty();
    }
    let mut header: Vec<Cell> = vec![Cell::new("#"), Cell::new("document")];
    header.extend(stages.iter().map(|stage| Cell::new(&stage.name)));
    header.push(Cell::new("score"));
    header.push(Cell::new("text"));
    table.set_header(header.into_iter().map(|cell| cell.add_attribute(Attribute::Bold)));
    for (row, point) in answer.points.iter().enumerate() {
        let mut cells = vec![Cell::new(row + 1), Cell::new(document(point))];
        for stage in &stages {
            cells.push(place_cell(stage.places[row], stage.before.as_ref().map(|before| before[row])));
        }
        cells.push(Cell::new(format!("{:.3}", point.score)).set_alignment(CellAlignment::Right));
        cells.push(Cell::new(excerpt(point.text.as_deref().unwrap_or_default())));
        table.add_row(cells);
    }
    table.to_string()
}

/// Id of a hit, and where in a document of several chunks it is.
fn document(point: &Point) -> String {
    match point.span {
        Some((from, to)) if point.chunk > 0 || from > 0 => {
            format!("{} chunk {}: {from}–{to}", point.id, point.chunk)
        }
        _ => point.id.clone(),
    }
}

fn stages(points: &[Point]) -> Vec<Stage> {
    let mut names: Vec<String> = Vec::new();
    for leg in points.iter().flat_map(|point| &point.legs) {
        if !names.contains(&leg.name) {
            names.push(leg.name.clone());
        }
    }
    let leg = |name: String| {
        let place =
            |point: &Point| point.legs.iter().find(|leg| leg.name == name).map(|leg| (leg.rank, leg.score));
        let places = points.iter().map(place).collect();
        Stage { name, places, before: None }
    };
    let mut stages: Vec<Stage> = names.into_iter().map(leg).collect();
    let ranks = |stage: &Stage| stage.places.iter().map(|place| place.map(|(rank, _)| rank)).collect();
    let best = |stages: &[Stage], row: usize| {
        stages.iter().filter_map(|stage| stage.places[row].map(|(rank, _)| rank)).min()
    };
    let legs: Vec<Option<u32>> = (0..points.len()).map(|row| best(&stages, row)).collect();
    let mut before = (!stages.is_empty()).then_some(legs);
    if points.iter().any(|point| point.fusion.is_some()) {
        let places = points.iter().map(|point| point.fusion.map(|f| (f.rank, f.score))).collect();
        let fused = Stage { name: "fused".into(), places, before: before.take() };
        before = Some(ranks(&fused));
        stages.push(fused);
    }
    if points.iter().any(|point| point.rerank.is_some()) {
        let places = points.iter().map(|point| point.rerank.map(|r| (r.rank, r.score))).collect();
        stages.push(Stage { name: "reranked".into(), places, before });
    }
    stages
}

fn place_cell(place: Option<(u32, f64)>, before: Option<Option<u32>>) -> Cell {
    let Some((rank, score)) = place else { return Cell::new("–").set_alignment(CellAlignment::Right) };
    let moved = match before {
        None => (String::new(), None),
        Some(None) => (" ✦".to_owned(), Some(Color::Cyan)),
        Some(Some(old)) if old > rank => (format!(" ▲{}", old - rank), Some(Color::Green)),
        Some(Some(old)) if old < rank => (format!(" ▼{}", rank - old), Some(Color::Red)),
        Some(Some(_)) => (" ＝".to_owned(), None),
    };
    let cell = Cell::new(format!("{rank}{} ({score:.3})", moved.0)).set_alignment(CellAlignment::Right);
    match moved.1 {
        Some(colour) => cell.fg(colour),
        None => cell,
    }
}

/// Characters of a text that a table shows.
const EXCERPT_CHARS: usize = 60;

fn excerpt(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= EXCERPT_CHARS {
        return line;
    }
    let cut: String = line.chars().take(EXCERPT_CHARS).collect();
    format!("{}…", cut.trim_end())
}

/// One line on what an answer reflects.
pub fn reflects(answer: &Answer) -> String {
    let several = answer.as_of.len() > 1;
    let offsets = answer.as_of.iter().flat_map(|(topic, offsets)| offsets.iter().map(move |of| (topic, of)));
    let offsets: Vec<String> = offsets
        .map(|(topic, (partition, offset))| {
            let topic = if several { format!("{topic}, ") } else { String::new() };
            match offset {
                -1 => format!("nothing of {topic}partition {partition} yet"),
                _ => format!("{topic}partition {partition} up to offset {offset}"),
            }
        })
        .collect();
    let time = answer.time.map(|time| format!(" at tick {time}")).unwrap_or_default();
    format!("reflects exactly: {}{time}; took {:.1} ms", offsets.join(", "), answer.took_seconds * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use freshet_schemas::{Fault, FaultCode, FusionScore, Group, Leg, RerankScore};

    fn point(id: &str, legs: &[(&str, u32)]) -> Point {
        let leg =
            |&(name, rank): &(&str, u32)| Leg { name: name.into(), rank, score: 0.5, contribution: None };
        Point {
            id: id.into(),
            score: 1.0,
            chunk: 0,
            span: Some((0, 4)),
            text: Some("text".into()),
            payload: None,
            legs: legs.iter().map(leg).collect(),
            fusion: None,
            rerank: None,
            order_value: None,
            vectors: Default::default(),
        }
    }

    fn table(points: Vec<Point>) -> Vec<String> {
        let answer = Answer {
            id: "q".into(),
            points,
            as_of: Default::default(),
            time: None,
            took_seconds: 0.0,
            stage_seconds: None,
            degraded: Vec::new(),
            error: None,
            count: None,
            groups: None,
            next: None,
        };
        answer_table(&answer, false).lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_rerank_of_two_legs_moves_hits_against_their_best_leg() {
        let rerank = |rank, point| Point { rerank: Some(RerankScore { rank, score: 0.1 }), ..point };
        let rows = table(vec![
            rerank(1, point("a", &[("dense", 7), ("bm25", 3)])),
            rerank(2, point("b", &[("dense", 1)])),
            rerank(3, point("c", &[("bm25", 3)])),
        ]);
        let row = |id: &str| rows.iter().find(|row| row.contains(&format!(" {id} "))).unwrap();
        assert!(row("a").contains("1 ▲2 "), "{rows:#?}");
        assert!(row("b").contains("2 ▼1 "), "{rows:#?}");
        assert!(row("c").contains("3 ＝ "), "{rows:#?}");
    }

    #[test]
    fn counts_and_groups_are_shown_as_such() {
        let answer = Answer::refusal("q", Fault::whole(FaultCode::NotJson, ""), 0.0);
        assert_eq!(found(&answer, false), "no document matches");
        assert_eq!(found(&Answer { count: Some(3), ..answer.clone() }, false), "3 documents");
        let hits = vec![point("a", &[])];
        let groups = Some(vec![Group { id: "x".into(), hits: hits.clone() }, Group { id: 7.into(), hits }]);
        let shown = found(&Answer { groups, ..answer }, false);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines.contains(&"\"x\"") && lines.contains(&"7") && shown.contains("text"), "{shown}");
    }

    #[test]
    fn a_rerank_of_a_fusion_moves_hits_against_the_fusion_and_a_chunk_says_where_it_is() {
        let moved = Point {
            fusion: Some(FusionScore { rank: 2, score: 0.2 }),
            rerank: Some(RerankScore { rank: 1, score: 0.1 }),
            chunk: 3,
            span: Some((700, 1200)),
            ..point("a", &[("dense", 1)])
        };
        let rows = table(vec![moved]);
        let row = rows.iter().find(|row| row.contains("▲1")).unwrap();
        assert!(row.contains("2 ▼1 "), "{rows:#?}");
        let all: String = rows.concat();
        assert!(all.contains("chunk 3") && all.contains("700–1200"), "{rows:#?}");
    }
}
