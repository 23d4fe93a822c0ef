"""What an artist sees of a running stream: moving pictures, words, and the document behind both.

`stream_view` is what a run reports to. It finds its panel by `place`, has `pictures` of a chunk,
and hands both to `panel_feed`, which keeps the document (`panel_document`, on disk by
`panel_store`), encodes `tiles` and sends events. `routes` gives the document to the page. Nothing
of it can break a run, and nothing of it costs more for a later chunk than for an early one.
"""
