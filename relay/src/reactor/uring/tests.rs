//! What the io_uring backend alone promises.
