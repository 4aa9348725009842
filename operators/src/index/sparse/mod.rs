//! Sparse vectors: postings with block maxima, exact top-k.
