"""What every run goes through: find or make its folder, start, record."""
