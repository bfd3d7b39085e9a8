"""The transfer service: moves money between wallets, banks and the platform, and keeps the ledger."""
