//! Memory that is about to be filled.

use rustix::mm::{Advice, madvise};

/// Bytes of a large page.
const LARGE_PAGE: usize = 2 << 20;

/// Makes room for exactly so many more values.
pub(crate) fn reserve<T>(values: &mut Vec<T>, more: usize) {
    values.reserve_exact(more);
    let room = values.spare_capacity_mut();
    fill_soon(room.as_ptr().cast(), size_of_val(room));
}

/// As [`reserve`], for text.
pub(crate) fn reserve_text(text: &mut String, more: usize) {
    text.reserve_exact(more);
    fill_soon(text.as_ptr().wrapping_add(text.len()), text.capacity() - text.len());
}

/// Asks for large pages where whole ones lie in some memory: else the system stops at every small one to clear it, which takes
/// longer than filling it.
fn fill_soon(begin: *const u8, bytes: usize) {
    let from = begin.addr().next_multiple_of(LARGE_PAGE);
    let whole = (begin.addr() + bytes).saturating_sub(from) / LARGE_PAGE * LARGE_PAGE;
    if whole > 0 {
        // SAFETY: this advice changes what memory is made of, not what is in it nor who may use it, wherever it points.
        // A system that has none to give does as it always did.
        let _ = unsafe { madvise(begin.with_addr(from).cast_mut().cast(), whole, Advice::LinuxHugepage) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_there_and_what_was_there_stays() {
        for more in [0, 1, 100, LARGE_PAGE - 1, 5 * LARGE_PAGE] {
            let (mut values, mut text) = (vec![7u32; 3], "ab".to_owned());
            reserve(&mut values, more);
            reserve_text(&mut text, more);
            assert!(values.capacity() >= more + 3 && text.capacity() >= more + 2);
            values.resize(more + 3, 8);
            text.extend(std::iter::repeat_n('c', more));
            assert!(values[..3] == [7; 3] && values[3..].iter().all(|&value| value == 8));
            assert!(text.starts_with("ab") && text[2..].bytes().all(|byte| byte == b'c'));
        }
    }
}
