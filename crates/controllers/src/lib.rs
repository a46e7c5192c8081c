//! Makes the observed cluster the desired one: one file or folder a controller.
