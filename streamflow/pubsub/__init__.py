"""Google's Pub/Sub over gRPC, on any log that has subscriptions: what Google's own clients connect to.

`server.py` binds a port; `publisher.py` and `subscriber.py` are the services, `streaming.py` is one streaming pull,
`usage.py` what all calls on one subscription share. `names.py`, `settings.py` and `messages.py` translate, `paging.py`
cuts lists, `errors.py` turns our errors into statuses; `protos.py` has the messages of the wire. It all works on the
async client: there are no leases and no storage here.

Needs the extra `streamflow[pubsub]`, so that nothing else may import it but the command that starts it.
"""
