"""The method: frozen backbone, supermasks, alpha. Import its modules; this package itself imports nothing."""
