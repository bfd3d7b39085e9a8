"""`sluice doctor`: whether everything that the services stand on is as it should be, and what to do where it is not."""
