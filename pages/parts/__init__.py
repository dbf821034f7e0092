"""What the pages share: the frame around them, the result they show, the inspector of a pair."""
