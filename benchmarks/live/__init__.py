"""Does a scan notice the annotator, and how many frames a second reach their rows?"""
