//! Rows of a file: JSON Lines, CSV and Parquet, each as a document record.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use arrow::json::LineDelimitedWriter;
use freshet_config::PayloadKind;
use freshet_operators::connect::record_of_line;
use freshet_schemas::Record;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

use super::LoadError;

/// Rows of a Parquet file that are in memory at a time.
const BATCH_ROWS: usize = 1024;

/// Kinds of values of payload fields; others are texts.
pub type Types = BTreeMap<String, PayloadKind>;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A JSON object per line; see the files connector for keys, headers and deletes.
    JsonLines,
    /// Values separated by a byte, names in the first line.
    Csv {
        /// The separator.
        delimiter: u8,
    },
    /// Apache Parquet.
    Parquet,
}

impl Format {
    /// By the ending of a file's name.
    pub fn of(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        match ending.as_str() {
            "jsonl" | "ndjson" | "json" => Some(Self::JsonLines),
            "csv" => Some(Self::Csv { delimiter: b',' }),
            "tsv" => Some(Self::Csv { delimiter: b'\t' }),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// A place between two rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Rows before it, those that are blank or refused counted; of a row it is its number, from 1.
    pub row: u64,
    /// Units before it: bytes, or rows where a file is not read byte by byte.
    pub done: u64,
}

/// A row, with the place behind it.
pub(super) struct Row {
    pub(super) place: Place,
    /// The record, still without a key where the row has none, or why there is none.
    pub(super) record: Result<Record, String>,
}

/// Goes through a file once.
pub(super) struct Rows {
    total: u64,
    rows: Box<dyn Iterator<Item = Result<Row, LoadError>>>,
}

impl Rows {
    /// Opens a file at a place where an earlier load has left it. Lines longer than a record may be are refused.
    pub(super) fn open(
        path: &Path,
        format: Option<Format>,
        types: &Types,
        value_bytes_max: usize,
        from: Option<Place>,
    ) -> Result<Self, LoadError> {
        let at = path.to_owned();
        let fail = move |problem: String| LoadError::File { path: at.clone(), problem };
        let from = from.unwrap_or_default();
        if path == Path::new("-") {
            let lines = Lines { input: Box::new(std::io::stdin().lock()), place: from, value_bytes_max };
            return Ok(Self { total: 0, rows: Box::new(lines.map(move |row| row.map_err(&fail))) });
        }
        let format = format.or_else(|| Format::of(path)).ok_or_else(|| {
            fail("the ending of its name is none of .jsonl, .ndjson, .json, .csv, .tsv, .parquet; give --format".into())
        })?;
        let mut file = File::open(path).map_err(|error| fail(error.to_string()))?;
        let bytes = file.metadata().map_or(0, |found| found.len());
        let rows: Box<dyn Iterator<Item = Result<Row, String>>> = match format {
            Format::JsonLines => {
                file.seek(SeekFrom::Start(from.done)).map_err(|error| fail(error.to_string()))?;
                Box::new(Lines { input: Box::new(BufReader::new(file)), place: from, value_bytes_max })
            }
            Format::Csv { delimiter } => {
                Box::new(Cells::open(file, delimiter, types.clone(), from).map_err(&fail)?)
            }
            Format::Parquet => {
                let table = Table::open(file, from).map_err(&fail)?;
                return Ok(Self {
                    total: table.rows,
                    rows: Box::new(table.map(move |row| row.map_err(&fail))),
                });
            }
        };
        Ok(Self { total: bytes, rows: Box::new(rows.map(move |row| row.map_err(&fail))) })
    }

    /// Units of the whole file; 0 if nobody knows.
    pub(super) fn total(&self) -> u64 {
        self.total
    }
}

impl Iterator for Rows {
    type Item = Result<Row, LoadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next()
    }
}

/// JSON Lines.
struct Lines {
    input: Box<dyn BufRead>,
    place: Place,
    value_bytes_max: usize,
}

impl Lines {
    /// Reads a line, its end included; what is longer than a record may be is passed over.
    fn line(&mut self) -> std::io::Result<Result<Vec<u8>, String>> {
        // A value in an envelope may stand in twice its bytes and more.
        let max = self.value_bytes_max.saturating_mul(2).saturating_add(1 << 20);
        let mut line = Vec::new();
        let mut read = (&mut self.input).take(max as u64).read_until(b'\n', &mut line)?;
        let cut = read == max && line.last() != Some(&b'\n');
        if cut {
            while !self.input.fill_buf()?.is_empty() {
                let rest = self.input.fill_buf()?;
                let (count, end) = match rest.iter().position(|byte| *byte == b'\n') {
                    Some(at) => (at + 1, true),
                    None => (rest.len(), false),
                };
                self.input.consume(count);
                read += count;
                if end {
                    break;
                }
            }
        }
        self.place.done += read as u64;
        Ok(if cut { Err(format!("the line has {read} bytes, at most {max} are read")) } else { Ok(line) })
    }
}

impl Iterator for Lines {
    type Item = Result<Row, String>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let line = match self.line() {
                Ok(Ok(line)) if line.is_empty() => return None,
                Ok(line) => line,
                Err(error) => return Some(Err(error.to_string())),
            };
            self.place.row += 1;
            let line = line.map(|line| record_of_line(line.strip_suffix(b"\n").unwrap_or(&line)));
            match line {
                Ok(None) => {}
                Ok(Some(record)) => return Some(Ok(Row { place: self.place, record: Ok(record) })),
                Err(problem) => return Some(Ok(Row { place: self.place, record: Err(problem) })),
            }
        }
    }
}

/// CSV.
struct Cells {
    reader: csv::Reader<File>,
    names: Vec<String>,
    types: Types,
    row: u64,
}

impl Cells {
    fn open(file: File, delimiter: u8, types: Types, from: Place) -> Result<Self, String> {
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(file);
        let names = reader.headers().map_err(|error| format!("no names of columns: {error}"))?;
        let names: Vec<String> =
            names.iter().map(|name| name.trim_start_matches('\u{feff}').to_owned()).collect();
        if from.done > 0 {
            let mut position = csv::Position::new();
            position.set_byte(from.done).set_record(from.row + 1);
            reader.seek(position).map_err(|error| error.to_string())?;
        }
        Ok(Self { reader, names, types, row: from.row })
    }

    fn record(&self, cells: &csv::StringRecord) -> Result<Record, String> {
        let mut object = Map::new();
        for (name, cell) in self.names.iter().zip(cells).filter(|(_, cell)| !cell.is_empty()) {
            let value = match self.types.get(name) {
                Some(PayloadKind::Integer) => cell.parse::<i64>().ok().map(Value::from),
                Some(PayloadKind::Float) => {
                    cell.parse::<f64>().ok().and_then(Number::from_f64).map(Value::from)
                }
                Some(PayloadKind::Bool) => cell.to_ascii_lowercase().parse::<bool>().ok().map(Value::from),
                Some(PayloadKind::Keyword | PayloadKind::Datetime | PayloadKind::Text) | None => {
                    Some(cell.into())
                }
            };
            let wrong = || {
                let kind = self.types[name];
                format!(
                    "column \"{name}\": \"{cell}\" is no {}, as [payload] declares it",
                    format!("{kind:?}").to_lowercase()
                )
            };
            object.insert(name.clone(), value.ok_or_else(wrong)?);
        }
        Ok(Record { value: Some(Value::Object(object).to_string().into_bytes()), ..Record::default() })
    }
}

impl Iterator for Cells {
    type Item = Result<Row, String>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut cells = csv::StringRecord::new();
        let read = self.reader.read_record(&mut cells);
        self.row += 1;
        let place = Place { row: self.row, done: self.reader.position().byte() };
        match read {
            Ok(false) => None,
            Ok(true) => Some(Ok(Row { place, record: self.record(&cells) })),
            Err(error) if matches!(error.kind(), csv::ErrorKind::Io(_)) => Some(Err(error.to_string())),
            Err(error) => Some(Ok(Row { place, record: Err(error.to_string()) })),
        }
    }
}

/// Parquet.
struct Table {
    batches: ParquetRecordBatchReader,
    rows: u64,
    row: u64,
    /// JSON objects of the current batch, the next one last.
    lines: Vec<Vec<u8>>,
}

impl Table {
    fn open(file: File, from: Place) -> Result<Self, String> {
        let failed = |error: parquet::errors::ParquetError| format!("not readable as Parquet: {error}");
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(failed)?;
        let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
        let begin = usize::try_from(from.row).unwrap_or(usize::MAX);
        let batches = builder.with_batch_size(BATCH_ROWS).with_offset(begin).build().map_err(failed)?;
        Ok(Self { batches, rows, row: from.row, lines: Vec::new() })
    }
}

impl Iterator for Table {
    type Item = Result<Row, String>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.lines.is_empty() {
            let batch = match self.batches.next()? {
                Ok(batch) => batch,
                Err(error) => return Some(Err(error.to_string())),
            };
            let mut writer = LineDelimitedWriter::new(Vec::new());
            if let Err(error) = writer.write(&batch).and_then(|()| writer.finish()) {
                return Some(Err(format!("a column that has no JSON form: {error}")));
            }
            let text = writer.into_inner();
            self.lines = text
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
                .map(<[u8]>::to_vec)
                .collect();
            self.lines.reverse();
        }
        self.row += 1;
        let record = Record { value: self.lines.pop(), ..Record::default() };
        Some(Ok(Row { place: Place { row: self.row, done: self.row }, record: Ok(record) }))
    }
}
