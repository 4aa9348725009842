//! One page of a query's list.

use freshet_schemas::Cursor;

use super::execution::{Execution, Ranked};
use crate::message::{PageTurn, Ticket};

/// Which part of the list an answer shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    /// Place of its first hit, from 0.
    from: usize,
    /// Most hits.
    size: usize,
    /// Where the next page is to be had.
    next: Option<Cursor>,
}

impl Page {
    /// The first of a query.
    pub(super) fn first(size: usize) -> Self {
        Self { from: 0, size, next: None }
    }

    /// Its part of the list.
    pub(super) fn of(self, list: &[Ranked]) -> &[Ranked] {
        let rest = list.get(self.from..).unwrap_or_default();
        &rest[..rest.len().min(self.size)]
    }

    /// Its cursor, in words of the answer.
    pub(super) fn next(self) -> Option<String> {
        self.next.map(|cursor| cursor.to_string())
    }
}

impl Execution {
    /// Whether the first page is to be answered, and nothing has been kept for others.
    pub fn opens_pages(&self) -> bool {
        self.page.is_some_and(|page| page.from == 0 && page.next.is_none())
    }

    /// Whether the answer is the first to its query.
    pub(super) fn is_first_page(&self) -> bool {
        self.page.is_none_or(|page| page.from == 0)
    }

    /// Where the next page begins, if there is one.
    pub fn next_page(&self) -> Option<usize> {
        let page = self.page?;
        let next = page.from.checked_add(page.size)?;
        (next < self.whole().len()).then_some(next)
    }

    /// Says where the next page is to be had.
    pub fn name_next(&mut self, cursor: Cursor) {
        if let Some(page) = &mut self.page {
            page.next = Some(cursor);
        }
    }

    /// The page that is asked for, to be fetched under a ticket; `None` if the list ends before.
    pub fn page(&self, ticket: Ticket, turn: &PageTurn) -> Option<Self> {
        let mut page = self.clone();
        let size = self.page?.size;
        let from = Some(turn.cursor.from).filter(|from| *from < self.whole().len())?;
        page.page = Some(Page { from, size, next: None });
        if let Some(from) = page.next_page() {
            page.name_next(Cursor { from, ..turn.cursor });
        }
        let planned = &mut page.query.admitted.planned;
        planned.ticket = ticket;
        planned.origin = turn.origin;
        planned.headers.clone_from(&turn.headers);
        planned.read_at_us = turn.read_at_us;
        planned.query.id.clone_from(&turn.id);
        Some(page)
    }
}
