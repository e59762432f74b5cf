"""One training loop for every objective: device, precision, processes, resume, records."""
