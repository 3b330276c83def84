"""Turns a pipeline into stages and runs their steps. A stage is a maximal chain of transforms between two logs; a
task is a stage on one partition; a step reads a batch at an offset, computes it, and commits outputs, offset and
state as one. Processes, and who runs which task, are no business of the engine.

    plan, explain/                     which stages there are; nothing executes
    task, opening, setting, pace       the step of a task, how a task gets its head, what it is given, when it rests
    context, history                   what a step gathers while it computes

    heads                              how a stage takes in what it reads; besides the heads that stand there:
      source, kernel                     events of a topic
      files, file_formats                events of files
      state, sessions, lateness, held    groupings, with the default trigger: windows, sessions
      triggered, accumulators            groupings that see one event at a time
      stateful, cells, timers            functions with state and timers
      sides, sidehead                    functions with side inputs
      timejoin, matching                 joins by time
      periodic                           what comes by the clock
      stores, sinks                      stores
    ledger, slices, memory, keyed      what all kept state stands on

    operators/                         what runs on the batches that a head gives
    combine/                           aggregates and CombineFns, before and behind a shuffle
    bisection                          queries over rows of which some may fail
    outputs, context_params            functions: what they give, what they ask for
    asynchronous, calls, bundle        async functions
"""
