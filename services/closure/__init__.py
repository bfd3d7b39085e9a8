"""The closing service: it ends wallets and loans, erases their holders, and clears a whole platform."""
