//! From records of lines to columns: all of a record, or nothing of it.

use crate::arrow::Array;
use crate::columns::{Column, Make};
use crate::cursor::{Cursor, Text};
use crate::marks::Marks;

/// Which fields a document has is kept in the bits of one word.
pub const FIELDS_MAX: usize = 64;
/// Views of strings find their bytes by 31 bits, and no column has more bytes than its records.
const BYTES_MAX: usize = i32::MAX as usize;
/// `{}` and a newline.
const DOCUMENT_BYTES_MIN: usize = 3;
/// Keys beyond are looked up each time.
const GUESSES_MAX: usize = 64;

pub struct Field {
    pub name: String,
    pub make: Make,
    pub required: bool,
    pub nullable: bool,
}

/// The columns of the records that are plainly fine, and for each record whether it is. A record is its lines and how
/// many they are.
pub fn decode(fields: &[Field], records: &[(&[u8], usize)]) -> (Vec<Array>, Vec<bool>) {
    let sizes = records.iter().map(|(lines, count)| (*count).min(lines.len() / DOCUMENT_BYTES_MIN));
    let mut batch = Batch::new(fields, sizes.sum());
    let (mut marks, mut bytes) = (Marks::default(), 0);
    let mut take = |&(lines, count): &(&[u8], usize)| {
        let is_taken = bytes + lines.len() <= BYTES_MAX && batch.take(lines, count, &mut marks);
        bytes += if is_taken { lines.len() } else { 0 };
        is_taken
    };
    let taken = records.iter().map(&mut take).collect();
    (batch.columns.into_iter().map(Column::finish).collect(), taken)
}

/// The key that stood at this place in the document before, as it was written with all that is around it, from the end
/// of the value before to the begin of its own. Most are short, and compared in one go.
struct Guess {
    written: Box<[u8]>,
    head: u128,
    mask: u128,
    column: Option<usize>,
}

impl Guess {
    fn new(written: &[u8], column: Option<usize>) -> Self {
        let mut head = [0; 16];
        let size = written.len().min(16);
        head[..size].copy_from_slice(&written[..size]);
        let mask = u128::MAX >> (128 - 8 * size);
        Self { written: written.into(), head: u128::from_le_bytes(head), mask, column }
    }

    #[inline]
    fn is_next(&self, cursor: &mut Cursor) -> bool {
        match cursor.block() {
            Some(block) if block & self.mask != self.head => false,
            Some(_) if self.written.len() <= 16 => {
                cursor.skip(self.written.len());
                true
            }
            _ => cursor.eat_all(&self.written),
        }
    }
}

/// What comes next in a document: the key of a column or of a value that nobody wants, or the end of it.
enum Next {
    Key(Option<usize>),
    End,
}

struct Batch<'a> {
    fields: &'a [Field],
    required: u64,
    all: u64,
    columns: Vec<Column>,
    rows: usize,
    guesses: Vec<Guess>,
}

impl<'a> Batch<'a> {
    fn new(fields: &'a [Field], rows: usize) -> Self {
        let bits = |wanted: fn(&Field) -> bool| {
            fields.iter().enumerate().filter(|(_, field)| wanted(field)).fold(0, |bits, (i, _)| bits | 1 << i)
        };
        let columns = fields.iter().map(|field| Column::new((field.make)(rows))).collect();
        Self {
            fields,
            required: bits(|field| field.required),
            all: bits(|_| true),
            columns,
            rows: 0,
            guesses: Vec::new(),
        }
    }

    /// Whether the record is plainly fine; if not, nothing of it stays.
    fn take(&mut self, lines: &[u8], count: usize, marks: &mut Marks) -> bool {
        let is_fine = simdutf8::basic::from_utf8(lines).is_ok() && {
            marks.read(lines);
            self.documents(Cursor::new(&Text { bytes: lines, marks }), count).is_some()
        };
        if is_fine {
            self.rows += count;
        } else {
            self.columns.iter_mut().for_each(|column| column.truncate(self.rows));
        }
        is_fine
    }

    fn documents(&mut self, mut cursor: Cursor, count: usize) -> Option<()> {
        for _ in 0..count {
            cursor = self.document(cursor)?;
        }
        cursor.is_at_end().then_some(())
    }

    #[inline]
    fn document<'b>(&mut self, mut cursor: Cursor<'b>) -> Option<Cursor<'b>> {
        cursor.spaces();
        let mut seen = 0;
        for place in 0.. {
            let guess = self.guesses.get(place).filter(|guess| guess.is_next(&mut cursor)).map(|guess| guess.column);
            let column = match guess {
                Some(column) => {
                    cursor.spaces();
                    column
                }
                None if place > 0 && cursor.eat(b'}') => break,
                None => match cursor.aside(|cursor| self.key(cursor, place))? {
                    Next::Key(column) => column,
                    Next::End => break,
                },
            };
            match column {
                None => cursor.skip_value()?,
                Some(i) if seen >> i & 1 == 1 => return None,
                Some(i) => {
                    self.columns[i].take(&mut cursor, self.fields[i].nullable)?;
                    seen |= 1 << i;
                }
            }
        }
        cursor.spaces();
        cursor.expect(b'\n')?;
        if seen != self.all {
            self.fill(seen)?;
        }
        Some(cursor)
    }

    /// The next key, where it was not the one that stood here before; documents of a topic are mostly made by one
    /// program.
    fn key(&mut self, cursor: &mut Cursor, place: usize) -> Option<Next> {
        let begin = cursor.position();
        cursor.spaces();
        let is_first = place == 0;
        if !is_first && cursor.eat(b'}') {
            return Some(Next::End);
        }
        cursor.expect(if is_first { b'{' } else { b',' })?;
        cursor.spaces();
        if is_first && cursor.eat(b'}') {
            return Some(Next::End);
        }
        let name = cursor.string()?;
        cursor.spaces();
        cursor.expect(b':')?;
        cursor.spaces();
        let column = self.fields.iter().position(|field| field.name.as_bytes() == name);
        let guess = Guess::new(cursor.since(begin), column);
        if place < self.guesses.len() {
            self.guesses[place] = guess;
        } else if place < GUESSES_MAX {
            self.guesses.push(guess);
        }
        Some(Next::Key(column))
    }

    /// Nulls for the fields that a document lacks, if it may.
    fn fill(&mut self, seen: u64) -> Option<()> {
        if self.required & !seen != 0 {
            return None;
        }
        let lacking = self.columns.iter_mut().enumerate().filter(|(i, _)| seen >> i & 1 == 0);
        lacking.for_each(|(_, column)| column.null());
        Some(())
    }
}
