"""A Databroker's `insert` is a sink like any other."""

from dvfb_stream.labels import LABELS


def test_a_databroker_keeps_the_analysis_run_and_gives_its_table(make_pipeline, raw_documents):
    import databroker

    broker = databroker.temp()
    pipeline = make_pipeline(sinks=[broker.insert])
    for name, doc in raw_documents().whole(0.25, 0.75):
        pipeline(name, doc)
    assert pipeline.wait(30)
    header = broker[-1]
    assert header.start["analysis"]["kind"] == "dvfb-annotation"
    table = header.table("annotations")
    assert list(table["frame"]) == [0, 1]
    assert set(LABELS) <= set(table.columns)
    assert header.stop["summary"]["frames"] == 2
