//! Dense vectors in FAISS.
