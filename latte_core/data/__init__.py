"""Data: the captioned world that the bundled model is trained on, and data sets of real videos.

The world: `sprites` holds the subjects and their pictures, `scenes` draws the places, `world`
moves a subject through a scene and writes the caption. Everything is drawn on the fly from a seed.

Videos: `video_set.open_source` opens a folder or a published set (`layouts`) and reads windows of
frames (`windows`) from video files (`video_file`) or folders of pictures (`pictures`); `draws`
makes clip number k of a seed the same in every process.
"""
