"""Work that several processes share, on one machine or on many: units of a plan, and the pieces that they become."""
