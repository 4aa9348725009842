//! Many texts in one piece of memory.

use std::ops::{Index, Range};

use crate::index::memory;

/// What pieces lie in: a `String` or a `Vec` of bytes.
pub(super) trait Store: Default + Index<Range<usize>, Output = Self::Piece> {
    /// A part of it.
    type Piece: ?Sized;

    fn append(&mut self, piece: &Self::Piece);
    fn reserve(&mut self, bytes: usize);
    fn size(&self) -> usize;
    fn size_of(piece: &Self::Piece) -> usize;
    fn room(&self) -> usize;
    fn shrink(&mut self);
}

impl Store for String {
    type Piece = str;

    fn append(&mut self, piece: &str) {
        self.push_str(piece);
    }

    fn reserve(&mut self, bytes: usize) {
        memory::reserve_text(self, bytes);
    }

    fn size(&self) -> usize {
        self.len()
    }

    fn size_of(piece: &str) -> usize {
        piece.len()
    }

    fn room(&self) -> usize {
        self.capacity()
    }

    fn shrink(&mut self) {
        self.shrink_to_fit();
    }
}

impl Store for Vec<u8> {
    type Piece = [u8];

    fn append(&mut self, piece: &[u8]) {
        self.extend_from_slice(piece);
    }

    fn reserve(&mut self, bytes: usize) {
        memory::reserve(self, bytes);
    }

    fn size(&self) -> usize {
        self.len()
    }

    fn size_of(piece: &[u8]) -> usize {
        piece.len()
    }

    fn room(&self) -> usize {
        self.capacity()
    }

    fn shrink(&mut self) {
        self.shrink_to_fit();
    }
}

/// Pieces, numbered from 0. Invariants: `ends` ascend, and are places where pieces were added.
#[derive(Debug, Default)]
pub(super) struct Pieces<S> {
    all: S,
    ends: Vec<usize>,
}

/// Texts, numbered from 0.
pub(super) type Strings = Pieces<String>;

impl<S: Store> Pieces<S> {
    /// Makes room for so many more pieces and bytes.
    pub(super) fn reserve(&mut self, count: usize, bytes: usize) {
        self.all.reserve(bytes);
        self.ends.reserve(count);
    }

    /// Room for some pieces, exactly.
    pub(super) fn reserve_of<'a>(&mut self, pieces: impl Iterator<Item = &'a S::Piece>)
    where
        S::Piece: 'a,
    {
        let (mut count, mut bytes) = (0, 0);
        pieces.for_each(|piece| (count, bytes) = (count + 1, bytes + S::size_of(piece)));
        self.all.reserve(bytes);
        self.ends.reserve_exact(count);
    }

    /// Adds a piece.
    pub(super) fn push(&mut self, piece: &S::Piece) {
        self.all.append(piece);
        self.ends.push(self.all.size());
    }

    /// Gives back the room for more.
    pub(super) fn shrink(&mut self) {
        self.all.shrink();
        self.ends.shrink_to_fit();
    }

    /// A piece that is there.
    pub(super) fn get(&self, number: usize) -> &S::Piece {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.all[start..self.ends[number]]
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.all.room() + self.ends.capacity() * size_of::<usize>()
    }
}
