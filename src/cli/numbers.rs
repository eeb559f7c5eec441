//! Reads numbers from a file or stdin: CSV (RFC 4180) with a header, or one number per line.
//!
//! Reads record by record: a file may be larger than memory and a pipe may be slow. Stricter than the `csv` crate, which accepts
//! records of any length, quotes that are never closed and characters behind a closing quote: a misplaced quote must not
//! change the text of a message. So each of these is an error with its line.

use std::path::Path;

use tokio::{
    fs::File,
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
};

use super::CliError;
use crate::message::address::normalize_number;

/// The longest record: a text of 4000 characters, quoted, with room to spare.
const MAX_RECORD_BYTES: usize = 64 * 1024;

/// What a header may have beside the columns that the caller knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherColumns {
    /// They are an error: a misspelt name must not lose a column.
    Refused,
    Ignored,
}

pub struct RowReader {
    reader: Box<dyn AsyncBufRead + Send + Unpin>,
    name: String,
    separator: char,
    /// The names of the columns, in the order of the fields. `None`: ignored.
    columns: Vec<Option<&'static str>>,
    /// The first record, if the file has no header.
    first: Option<Vec<String>>,
    /// Number of lines read so far.
    line: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// The last line of the record, counted from 1.
    pub line: u64,
    fields: Vec<(&'static str, String)>,
}

impl Row {
    /// Takes the field of a column, trimmed. Empty if the file does not have the column.
    pub fn take(&mut self, column: &str) -> String {
        self.fields
            .iter_mut()
            .find(|(name, _)| *name == column)
            .map(|(_, field)| std::mem::take(field).trim().to_owned())
            .unwrap_or_default()
    }
}

impl RowReader {
    /// Opens a file, or stdin for `-`, and reads its header. `columns` are the allowed names; the first one is required, and
    /// is the only column of a file without a header.
    ///
    /// # Errors
    /// [`CliError::Usage`] if the file cannot be read or its header is invalid.
    pub async fn open(
        file: &Path,
        columns: &[&'static str],
        others: OtherColumns,
    ) -> Result<Self, CliError> {
        if file == Path::new("-") {
            let stdin = BufReader::new(tokio::io::stdin());
            return Self::new(Box::new(stdin), "stdin".into(), columns, others).await;
        }
        let name = file.display().to_string();
        let opened = File::open(file)
            .await
            .map_err(|error| CliError::Usage(format!("cannot open {name}: {error}")))?;
        Self::new(Box::new(BufReader::new(opened)), name, columns, others).await
    }

    async fn new(
        reader: Box<dyn AsyncBufRead + Send + Unpin>,
        name: String,
        columns: &[&'static str],
        others: OtherColumns,
    ) -> Result<Self, CliError> {
        let mut rows = Self {
            reader,
            name,
            separator: ',',
            columns: Vec::new(),
            first: None,
            line: 0,
        };
        let required = *columns.first().expect("callers name at least one column");
        let Some(text) = rows.read_record().await? else {
            return Err(CliError::Usage(format!("{} is empty", rows.name)));
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        // Spreadsheets write semicolons where the comma is the decimal separator.
        if text.contains(';') && !text.contains(',') {
            rows.separator = ';';
        }
        let header = rows.parse(text)?;
        if let [number] = header.as_slice()
            && normalize_number(number).is_ok()
        {
            rows.columns = vec![Some(required)];
            rows.first = Some(header);
            return Ok(rows);
        }
        let header: Vec<_> = header
            .iter()
            .map(|name| name.trim().to_lowercase())
            .collect();
        let known = |name: &String| columns.iter().find(|column| *column == name).copied();
        if !header.iter().any(|name| known(name).is_some()) && header.len() > 1 {
            return Err(rows.wrong(&format!(
                "the first line is no header: a file with several columns needs one, such as `{}`",
                columns[..columns.len().min(2)].join(",")
            )));
        }
        for name in &header {
            match known(name) {
                Some(column) if !rows.columns.contains(&Some(column)) => {
                    rows.columns.push(Some(column));
                }
                Some(_) => {
                    return Err(rows.wrong(&format!("the header has the column `{name}` twice")));
                }
                None if others == OtherColumns::Ignored => rows.columns.push(None),
                None => {
                    return Err(rows.wrong(&format!(
                        "unknown column `{name}`: the header may have {}",
                        columns.join(", ")
                    )));
                }
            }
        }
        if !rows.columns.contains(&Some(required)) {
            return Err(rows.wrong(&format!("the header has no column `{required}`")));
        }
        Ok(rows)
    }

    /// Reads the next record; `None` at the end.
    ///
    /// # Errors
    /// [`CliError::Usage`] with the line if the file cannot be read or is not valid CSV.
    pub async fn next(&mut self) -> Result<Option<Row>, CliError> {
        let fields = match self.first.take() {
            Some(fields) => fields,
            None => match self.read_record().await? {
                Some(text) => self.parse(&text)?,
                None => return Ok(None),
            },
        };
        if fields.len() != self.columns.len() {
            return Err(self.wrong(&format!(
                "{} fields where the header has {}",
                fields.len(),
                self.columns.len()
            )));
        }
        Ok(Some(Row {
            line: self.line,
            fields: self
                .columns
                .iter()
                .zip(fields)
                .filter_map(|(column, field)| Some(((*column)?, field)))
                .collect(),
        }))
    }

    /// Reads the text of the next record without its line break. Skips blank lines.
    async fn read_record(&mut self) -> Result<Option<String>, CliError> {
        let mut record = Vec::new();
        loop {
            let room = (MAX_RECORD_BYTES + 1).saturating_sub(record.len()) as u64;
            let read = (&mut self.reader)
                .take(room)
                .read_until(b'\n', &mut record)
                .await
                .map_err(|error| CliError::Usage(format!("cannot read {}: {error}", self.name)))?;
            self.line += u64::from(read > 0);
            if record.len() > MAX_RECORD_BYTES {
                return Err(self.wrong("a record is longer than 64 KiB: is a quote missing?"));
            }
            // A line break inside quotes is part of the field. Quotes inside fields are doubled, so it is enough to count.
            let open = record.iter().filter(|&&byte| byte == b'"').count() % 2 == 1;
            if read == 0 && open {
                return Err(self.wrong("a quote is never closed"));
            }
            if read == 0 && record.is_empty() {
                return Ok(None);
            }
            if open {
                continue;
            }
            let text = String::from_utf8(std::mem::take(&mut record))
                .map_err(|_| self.wrong("the text is not UTF-8"))?;
            let text = text.trim_end_matches(['\r', '\n']);
            if !text.trim().is_empty() {
                return Ok(Some(text.to_owned()));
            }
        }
    }

    fn parse(&self, record: &str) -> Result<Vec<String>, CliError> {
        let mut fields = Vec::new();
        let mut rest = record;
        loop {
            let (field, after) = match rest.trim_start_matches(' ').strip_prefix('"') {
                Some(quoted) => self.quoted(quoted)?,
                None => {
                    let end = rest.find(self.separator).unwrap_or(rest.len());
                    let (field, after) = rest.split_at(end);
                    if field.contains('"') {
                        return Err(self.wrong(
                            "a quote inside an unquoted field: quote the field and double the quotes in it",
                        ));
                    }
                    (field.to_owned(), after)
                }
            };
            fields.push(field);
            match after.strip_prefix(self.separator) {
                Some(next) => rest = next,
                None => return Ok(fields),
            }
        }
    }

    /// Parses the rest of a quoted field. Returns the field and the text behind it.
    fn quoted<'a>(&self, text: &'a str) -> Result<(String, &'a str), CliError> {
        let mut field = String::new();
        let mut rest = text;
        while let Some((part, after)) = rest.split_once('"') {
            field.push_str(part);
            match after.strip_prefix('"') {
                Some(doubled) => {
                    field.push('"');
                    rest = doubled;
                }
                None => {
                    let after = after.trim_start_matches(' ');
                    if after.is_empty() || after.starts_with(self.separator) {
                        return Ok((field, after));
                    }
                    return Err(self.wrong("characters after a closing quote"));
                }
            }
        }
        Err(self.wrong("a quote is never closed"))
    }

    fn wrong(&self, what: &str) -> CliError {
        CliError::Usage(format!("{}, line {}: {what}", self.name, self.line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(text: &'static str) -> Result<Vec<[String; 3]>, String> {
        let columns = ["to", "text", "from"];
        let mut rows = RowReader::new(
            Box::new(text.as_bytes()),
            "test".into(),
            &columns,
            OtherColumns::Refused,
        )
        .await
        .map_err(|error| error.to_string())?;
        let mut all = Vec::new();
        while let Some(mut row) = rows.next().await.map_err(|error| error.to_string())? {
            all.push(columns.map(|column| row.take(column)));
        }
        Ok(all)
    }

    fn row(to: &str, text: &str, from: &str) -> [String; 3] {
        [to.into(), text.into(), from.into()]
    }

    #[tokio::test]
    async fn the_header_names_the_columns() {
        assert_eq!(
            read("\u{feff}Text,TO\r\nhello, 41 79\r\n\r\n\"a, \"\"b\"\"\nc\",42").await,
            Ok(vec![
                row("41 79", "hello", ""),
                row("42", "a, \"b\"\nc", "")
            ])
        );
        assert_eq!(
            read("to;from\n41;Shop\n").await,
            Ok(vec![row("41", "", "Shop")])
        );
        assert_eq!(read("to,text\n41,\n").await, Ok(vec![row("41", "", "")]));
        assert_eq!(read("to\n").await, Ok(vec![]));
    }

    #[tokio::test]
    async fn a_plain_list_needs_no_header() {
        assert_eq!(
            read("+41 79 302 67 27\n385911234567").await,
            Ok(vec![
                row("+41 79 302 67 27", "", ""),
                row("385911234567", "", "")
            ])
        );
    }

    #[tokio::test]
    async fn mistakes_name_their_line() {
        for (text, expected) in [
            ("", "test is empty"),
            ("text\nx", "test, line 1: the header has no column `to`"),
            (
                "to,to\n1,2",
                "test, line 1: the header has the column `to` twice",
            ),
            (
                "to,name\n1,2",
                "test, line 1: unknown column `name`: the header may have to, text, from",
            ),
            (
                "to,text\n1,2\n3,4,5",
                "test, line 3: 3 fields where the header has 2",
            ),
            ("to,text\n1,\"x", "test, line 2: a quote is never closed"),
            (
                "to,text\n1,\"x\"y",
                "test, line 2: characters after a closing quote",
            ),
        ] {
            assert_eq!(read(text).await, Err(expected.to_owned()), "{text}");
        }
        let long = format!("to,text\n1,{}", "x".repeat(MAX_RECORD_BYTES));
        let error = read(Box::leak(long.into_boxed_str())).await.unwrap_err();
        assert!(error.contains("64 KiB"), "{error}");
    }
}
