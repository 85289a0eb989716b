"""A whole Reelmap for the length of one job, from videos to a page of clusters."""
