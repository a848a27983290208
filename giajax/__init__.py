"""giajax: what federated-learning updates give away, measured in JAX."""

__version__ = '0.1.0'
