//! Certificates, keys, bootstrap tokens, kubeconfigs and their rotation.
