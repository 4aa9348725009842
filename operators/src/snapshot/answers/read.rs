//! What the table is read for: to ask its queries again, as a view, and to remove what is old.

use std::collections::BTreeMap;

use arrow::array::{Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use bytes::Bytes;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::ANSWERS;
use crate::index::Time;
use crate::index::segment::table::{TableError, guarded};
use crate::snapshot::SnapshotError;
use crate::snapshot::store::Store;

/// A query that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedQuery {
    /// Its id.
    pub id: String,
    /// When it was read, microseconds since the epoch.
    pub asked_us: i64,
    /// The query, as it was asked.
    pub query: String,
}

/// Whether a text is a date such as `2026-11-21`.
pub fn is_date(text: &str) -> bool {
    text.parse::<Date>().is_ok_and(|date| date.to_string() == text)
}

/// Folders of the table with their dates, ascending.
pub(super) fn days(store: &Store) -> Result<Vec<(String, String)>, SnapshotError> {
    let folders = store.folders(ANSWERS)?.into_iter();
    Ok(folders
        .filter_map(|name| Some((format!("{ANSWERS}/{name}"), name.strip_prefix("date=")?.to_owned())))
        .collect())
}

pub(super) fn files(store: &Store, folder: &str) -> Result<Vec<String>, SnapshotError> {
    let mut files = store.files(folder)?;
    files.retain(|path| path.ends_with(".parquet"));
    Ok(files)
}

/// The queries of the table, in the order in which they were read; of those with the same id the last. `since`: the first
/// date that is read, such as `2026-11-21`; all, if none is given.
///
/// # Errors
/// The store refusing, or a file that is no table of answers.
pub fn queries(store: &Store, since: Option<&str>) -> Result<Vec<AskedQuery>, SnapshotError> {
    let mut found: BTreeMap<String, AskedQuery> = BTreeMap::new();
    for (folder, date) in days(store)? {
        if since.is_some_and(|since| date.as_str() < since) {
            continue;
        }
        for path in files(store, &folder)? {
            for asked in read(store, &path)? {
                let later = |other: &AskedQuery| asked.asked_us >= other.asked_us;
                if found.get(&asked.id).is_none_or(later) {
                    found.insert(asked.id.clone(), asked);
                }
            }
        }
    }
    let mut queries: Vec<AskedQuery> = found.into_values().collect();
    queries.sort_by(|a, b| (a.asked_us, &a.id).cmp(&(b.asked_us, &b.id)));
    Ok(queries)
}

/// The rows of a file.
pub(super) fn read(store: &Store, path: &str) -> Result<Vec<AskedQuery>, SnapshotError> {
    let failed = |source: TableError| SnapshotError::Table { path: path.to_owned(), source };
    let bytes = Bytes::from(store.get(path)?);
    let batches = guarded(|| {
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
        let columns = ProjectionMask::columns(reader.parquet_schema(), ["id", "asked", "query"]);
        let batches: Result<Vec<RecordBatch>, _> = reader.with_projection(columns).build()?.collect();
        Ok(batches?)
    });
    let mut found = Vec::new();
    for batch in batches.map_err(failed)? {
        let (Some(ids), Some(asked), Some(queries)) = (
            column::<StringArray>(&batch, "id"),
            column::<TimestampMicrosecondArray>(&batch, "asked"),
            column::<StringArray>(&batch, "query"),
        ) else {
            let what = "has no columns \"id\", \"asked\" and \"query\"".to_owned();
            return Err(SnapshotError::Broken { path: path.to_owned(), what });
        };
        found.extend((0..batch.num_rows()).map(|row| AskedQuery {
            id: ids.value(row).to_owned(),
            asked_us: asked.value(row),
            query: queries.value(row).to_owned(),
        }));
    }
    Ok(found)
}

fn column<'a, A: Array + 'static>(batch: &'a RecordBatch, name: &str) -> Option<&'a A> {
    batch.column_by_name(name)?.as_any().downcast_ref()
}

/// SQL for DuckDB: a view `answers` over the table, each query once; nothing if there is no answer.
///
/// # Errors
/// The store refusing.
pub fn view(store: &Store) -> Result<Option<String>, SnapshotError> {
    let mut any = false;
    for (folder, _) in days(store)? {
        any = any || !files(store, &folder)?.is_empty();
    }
    let root = store.url().strip_prefix("file://").unwrap_or(store.url()).trim_end_matches('/');
    let glob = format!("{root}/{ANSWERS}/*/*.parquet").replace('\'', "''");
    Ok(any.then(|| {
        format!(
            "-- Answers, one per query: of those that stand there twice, around a crash, the later one.\n\
             CREATE OR REPLACE VIEW answers AS\n\
             SELECT * FROM read_parquet('{glob}', hive_partitioning = true, union_by_name = true)\n\
             QUALIFY row_number() OVER (PARTITION BY id ORDER BY asked DESC) = 1;"
        )
    }))
}

/// Removes the days that ended before a time in milliseconds since the epoch.
pub(in crate::snapshot) fn clean(store: &Store, limit: Time) -> Result<(), SnapshotError> {
    for (folder, date) in days(store)? {
        // Others' folders are left alone.
        let Ok(day) = date.parse::<Date>() else { continue };
        let end = day.tomorrow().and_then(|next| next.to_zoned(TimeZone::UTC));
        let is_old = end
            .is_ok_and(|end| u64::try_from(end.timestamp().as_millisecond()).is_ok_and(|end| end <= limit));
        if is_old {
            for path in store.files(&folder)? {
                store.delete(&path)?;
            }
        }
        store.sweep(&folder)?;
    }
    Ok(())
}
