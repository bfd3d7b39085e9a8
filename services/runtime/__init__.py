"""The shared shell of every service: one consumer loop, its offsets, outbox, timers and health; it knows no service."""
