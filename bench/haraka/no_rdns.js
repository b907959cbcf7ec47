// No name is asked for: the benchmark has no name server, and no system of it asks for names.
exports.hook_lookup_rdns = (next) => next(OK, 'client.example');
