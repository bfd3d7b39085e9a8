"""The shared shell of every service: one consumer loop, its offsets, outbox and timers."""
