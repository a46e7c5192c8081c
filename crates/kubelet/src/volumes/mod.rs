//! Puts the files of a pod in place and takes them away.
