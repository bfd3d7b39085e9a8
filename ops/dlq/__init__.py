"""Dead letters for people on call: look at them, replay them once, or set them aside; each act is logged."""
