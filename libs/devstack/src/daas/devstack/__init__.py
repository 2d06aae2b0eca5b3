"""Every development stand-in, and nothing else: embedded ledger, API server, software NSM, launchers."""
