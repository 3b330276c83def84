"""For users' tests: assertions about PCollections, and pipelines that run in the test. Nothing of the engine may import
it."""
