"""Pipelines on Kafka: as many worker processes on as many machines as wanted, and no coordinator of ours. The engine,
its tasks and the worker's loop are those of a folder; `ClusterLog` is their log. Here live what a task keeps in Kafka
(`records.py`, pure), how it commits (`holding.py`), what all workers know of each other (`view.py`), who runs what
(`membership.py`), and the log that puts them together (`log.py`). Needs `streamflow[cluster]`.

A *task* is a stage on a partition. All tasks of a pipeline are numbered; number n is partition n of the topic
`<pipeline>.tasks`, which holds no messages. A worker hosts a Faust app whose agent listens to that topic, and so
Kafka's group protocol with Faust's sticky assignor says who runs which task. No event goes through Faust: it takes some
100 µs for each, where reading whole batches takes 3.

A *step* ends in one Kafka transaction, under a transactional id of the task's own: its outputs, to users' topics and to
the shuffles `<pipeline>.<step>`; its state segments and tombstones, and a record that says up to which offset of the
input it has come, to its partition of the compacted changelog `<pipeline>.<step>.changelog`; and the same record, for
everybody to see, to `<pipeline>.status`. Nothing of a step is read before all of it is there, so readers need not know
duplicates, and Kafka's group offsets play no part. Stamps on every effect (skipping repeated messages by their source's
offset) would give the same, but each reader would have to know every writer, a step would have to give the same
messages whenever it is repeated, and readers that are not ours would see repetitions. A store is no part of the
transaction: there the rule is the same as on a folder, each write knows the input offset it covers.

A *claim* is what a worker does with a task that the group has assigned to it. It opens the producer of the task's
transactional id, upon which Kafka ends what an earlier owner had begun and refuses whatever that owner, a *zombie*,
still wants to commit. The changelog's partition, which only that task writes to, is then read up to its very end (not
only up to the first open transaction), and the claim with its new epoch is committed there. Whoever has got that far
is the only owner, so a task that moves needs no agreement with the one before, and one that stays goes on working while
the group rebalances. A refused commit gives the task up; it may be claimed again a little later, when a zombie has
learnt from the group that it is none of its business any more.

If the answer to a commit is lost, nobody knows whether it happened: the producer is opened again, which decides it, and
the changelog tells.

A *watermark* is true for who has read all that was written before it was given. A step's record comes with its outputs;
but a reader gets what is committed only up to the first transaction that is still open in a partition, so newer
messages may be hidden behind it. So the view takes the records first, then where all inputs end with everything, and
shows these records from when on that much can be read.

*Bounded* pipelines end as on a folder: publishers end a topic, the watermark at infinity goes through all stages.
"""

from streamflow.runtime.cluster.log import ClusterLog

__all__ = ["ClusterLog"]
