//! Makes a process a container. No threads, no async: it forks.
