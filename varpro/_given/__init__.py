"""What callers give, checked: arrays in any container, and single arguments."""
