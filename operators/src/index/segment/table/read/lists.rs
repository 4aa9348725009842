//! Lists of numbers, straight from the pages of their leaf: Arrow's arrays of lists copy them once or twice more.

use std::ops::Range;
use std::sync::Arc;

use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::serialized_reader::SerializedPageReader;

use super::super::source::Window;

/// Values decoded at once, about: they and their levels stay in a core's own cache.
const VALUES: usize = 16 << 10;

/// The lists of a leaf in one row group, some rows at a time.
pub(super) struct Lists<T: DataType> {
    reader: Box<ColumnReaderImpl<T>>,
    /// Definition level of a value.
    full: i16,
    /// Values that most lists have.
    likely: usize,
    rows_max: usize,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
    values: Vec<T::T>,
    rows: Vec<Option<Range<usize>>>,
}

impl<T: DataType> Lists<T> {
    /// The lists of a leaf, most of which have `likely` values.
    ///
    /// # Errors
    /// A leaf that is not of lists of such values, or not where the metadata says.
    pub(super) fn open(
        window: &Window,
        group: &RowGroupMetaData,
        leaf: usize,
        likely: usize,
    ) -> Result<Self, ParquetError> {
        let column = group.column(leaf);
        let about = column.column_descr_ptr();
        let (full, depth) = (about.max_def_level(), about.max_rep_level());
        if about.physical_type() != T::get_physical_type() || depth != 1 || !(1..=2).contains(&full) {
            return Err(ParquetError::General(format!("column {} is of other lists", about.path())));
        }
        let rows = usize::try_from(group.num_rows()).unwrap_or(0);
        let values = usize::try_from(column.num_values()).unwrap_or(0);
        let pages = SerializedPageReader::new(Arc::new(window.clone()), column, rows, None)?;
        Ok(Self {
            reader: Box::new(ColumnReaderImpl::new(about, Box::new(pages))),
            full,
            likely,
            rows_max: (VALUES / (values / rows.max(1)).max(1)).max(1),
            definitions: Vec::new(),
            repetitions: Vec::new(),
            values: Vec::new(),
            rows: Vec::new(),
        })
    }

    /// Rows that are best read at once.
    pub(super) fn rows_max(&self) -> usize {
        self.rows_max
    }

    /// Reads the next rows: where in the values the list of each is, `None` for those that are null; and the values.
    ///
    /// # Errors
    /// Torn pages, or fewer rows.
    pub(super) fn read(&mut self, rows: usize) -> Result<(&[Option<Range<usize>>], &[T::T]), ParquetError> {
        let Self { definitions, repetitions, values, .. } = self;
        definitions.clear();
        repetitions.clear();
        values.clear();
        let (found, _, _) = self.reader.read_records(rows, Some(definitions), Some(repetitions), values)?;
        self.rows.clear();
        let (mut level, mut value) = (0, 0);
        while let Some(&definition) = self.definitions.get(level) {
            let levels = self.levels(level);
            let null = definition < self.full - 1;
            let count = if definition == self.full { levels } else { 0 };
            self.rows.push((!null).then_some(value..value + count));
            (level, value) = (level + levels, value + count);
        }
        if (found, self.rows.len(), value) != (rows, rows, self.values.len()) {
            let found = self.rows.len();
            return Err(ParquetError::General(format!("{rows} lists are to come, {found} are there")));
        }
        Ok((&self.rows, &self.values))
    }

    /// Levels of the row that begins at one of them.
    fn levels(&self, begin: usize) -> usize {
        let rest = &self.repetitions[begin + 1..];
        if let Some((row, next)) = rest.split_at_checked(self.likely.wrapping_sub(1))
            && next.first().is_none_or(|&level| level == 0)
            && row.iter().fold(true, |all, &level| all & (level != 0))
        {
            return self.likely;
        }
        1 + rest.iter().position(|&level| level == 0).unwrap_or(rest.len())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Float32Builder, ListBuilder, RecordBatch};
    use arrow::datatypes::{DataType, Float32Type};
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use parquet::data_type::{DoubleType, FloatType};
    use parquet::file::properties::WriterProperties;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::super::super::{schema, source};
    use super::*;

    /// A table with lists in its one column, on small pages.
    fn table(lists: Vec<Option<Vec<f32>>>, rows_of_page: usize) -> bytes::Bytes {
        let mut builder =
            ListBuilder::new(Float32Builder::new()).with_field(schema::element(DataType::Float32));
        for list in lists {
            let there = list.is_some();
            builder.values().append_slice(&list.unwrap_or_default());
            builder.append(there);
        }
        let lists: ArrayRef = Arc::new(builder.finish());
        let batch = RecordBatch::try_from_iter_with_nullable([("lists", lists, true)]).expect("a batch");
        let properties = WriterProperties::builder()
            .set_data_page_row_count_limit(rows_of_page)
            .set_write_batch_size(rows_of_page);
        let mut to = Vec::new();
        let mut writer =
            ArrowWriter::try_new(&mut to, batch.schema(), Some(properties.build())).expect("a writer");
        writer.write(&batch).expect("rows");
        writer.close().expect("a table");
        to.into()
    }

    fn open<T: parquet::data_type::DataType>(
        mut table: bytes::Bytes,
        likely: usize,
    ) -> Result<Lists<T>, ParquetError> {
        let metadata = source::metadata(&mut table).expect("metadata");
        let window = Window::read(&mut table, &metadata, 0, &mut 0, Vec::new()).expect("a row group");
        Lists::open(&window, metadata.row_group(0), 0, likely)
    }

    fn with_arrow(table: bytes::Bytes) -> Vec<Option<Vec<f32>>> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(table).expect("a table").build();
        let batches = reader.expect("a reader").map(|batch| batch.expect("rows"));
        let of = |list: ArrayRef| list.as_primitive::<Float32Type>().values().to_vec();
        batches
            .flat_map(|batch| {
                batch.column(0).as_list::<i32>().iter().map(|list| list.map(of)).collect::<Vec<_>>()
            })
            .collect()
    }

    proptest! {
        /// Lists are those that Arrow reads, however they lie on pages and however many are read at once.
        #[test]
        fn lists_are_as_arrow_reads_them(
            lists in vec(option::weighted(0.8, prop_oneof![vec(any::<f32>(), 3), vec(any::<f32>(), 0..6)]), 1..60),
            rows_of_page in 1usize..20,
            at_once in 1usize..20,
            likely in 0usize..5,
        ) {
            let table = table(lists, rows_of_page);
            let wanted = with_arrow(table.clone());
            let mut lists = open::<FloatType>(table, likely).expect("lists");
            let mut found = Vec::new();
            while found.len() < wanted.len() {
                let (rows, values) = lists.read(at_once.min(wanted.len() - found.len())).expect("lists");
                found.extend(rows.iter().map(|row| row.clone().map(|row| values[row].to_vec())));
            }
            let bits = |lists: Vec<Option<Vec<f32>>>| -> Vec<Option<Vec<u32>>> {
                let of = |list: Vec<f32>| list.into_iter().map(f32::to_bits).collect();
                lists.into_iter().map(|list| list.map(of)).collect()
            };
            prop_assert_eq!(bits(found), bits(wanted));
            prop_assert!(lists.read(1).is_err(), "there are no more");
        }
    }

    #[test]
    fn lists_of_other_numbers_are_refused() {
        let Err(error) = open::<DoubleType>(table(vec![Some(vec![1.0])], 8), 1) else {
            panic!("lists of doubles are not there")
        };
        assert!(error.to_string().contains("is of other lists"), "{error}");
    }
}
