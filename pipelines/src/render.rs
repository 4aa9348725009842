//! Answers as tables for people: where each hit stood in every stage, and how it moved.

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use freshet_schemas::{Answer, Point};

/// Ranks of the hits in one stage.
struct Stage {
    name: String,
    /// Per hit its rank, from 1, and score.
    places: Vec<Option<(u32, f64)>>,
    /// Whether it follows the stage before it, so that a hit can move.
    moves: bool,
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
        let mut cells = vec![Cell::new(row + 1), Cell::new(&point.id)];
        for (number, stage) in stages.iter().enumerate() {
            let before =
                number.checked_sub(1).filter(|_| stage.moves).map(|before| &stages[before].places[row]);
            cells.push(place_cell(stage.places[row], before));
        }
        cells.push(Cell::new(format!("{:.3}", point.score)).set_alignment(CellAlignment::Right));
        cells.push(Cell::new(excerpt(point.text.as_deref().unwrap_or_default())));
        table.add_row(cells);
    }
    table.to_string()
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
        Stage { name, places, moves: false }
    };
    let mut stages: Vec<Stage> = names.into_iter().map(leg).collect();
    let has_legs = !stages.is_empty();
    if points.iter().any(|point| point.fusion.is_some()) {
        let places = points.iter().map(|point| point.fusion.map(|f| (f.rank, f.score))).collect();
        stages.push(Stage { name: "fused".into(), places, moves: has_legs });
    }
    if points.iter().any(|point| point.rerank.is_some()) {
        let places = points.iter().map(|point| point.rerank.map(|r| (r.rank, r.score))).collect();
        stages.push(Stage { name: "reranked".into(), places, moves: has_legs });
    }
    stages
}

fn place_cell(place: Option<(u32, f64)>, before: Option<&Option<(u32, f64)>>) -> Cell {
    let Some((rank, score)) = place else { return Cell::new("–").set_alignment(CellAlignment::Right) };
    let moved = match before {
        None => (String::new(), None),
        Some(None) => (" ✦".to_owned(), Some(Color::Cyan)),
        Some(Some((old, _))) if *old > rank => (format!(" ▲{}", old - rank), Some(Color::Green)),
        Some(Some((old, _))) if *old < rank => (format!(" ▼{}", rank - old), Some(Color::Red)),
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
    let offsets = answer.as_of.get("documents").into_iter().flatten();
    let offsets: Vec<String> = offsets
        .map(|(partition, offset)| match offset {
            -1 => format!("nothing of partition {partition} yet"),
            _ => format!("partition {partition} up to offset {offset}"),
        })
        .collect();
    let time = answer.time.map(|time| format!(" at tick {time}")).unwrap_or_default();
    format!("reflects exactly: {}{time}; took {:.1} ms", offsets.join(", "), answer.took_seconds * 1e3)
}
