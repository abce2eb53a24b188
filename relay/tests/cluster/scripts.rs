//! Fixed stories, one subject each.
