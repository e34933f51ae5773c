/* This process among the ranks of its job. The only module that knows MPI; without MPI, or when no
 * launcher started us, there is one rank and no MPI call is made. */
#ifndef SM_INGEST_RANK_H
#define SM_INGEST_RANK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

typedef struct sm_ranks sm_ranks;

#define SM_MESSAGE_MAX 512

/**
 * MPI_Init_thread (FUNNELED) if a launcher started us (OMPI_COMM_WORLD_SIZE, PMIX_RANK, PMI_RANK,
 * PMI_SIZE ... in the environment), with errors returned rather than fatal.
 * SM_ERR_ARG: the launcher started several tasks but MPI sees one (srun without a PMI that this MPI
 * knows): says which --mpi to try, or mpirun.
 */
SM_NODISCARD sm_status sm_ranks_init(int *argc, char ***argv, sm_ranks **ranks, sm_error *err);
uint32_t sm_ranks_me(const sm_ranks *ranks);
uint32_t sm_ranks_n(const sm_ranks *ranks);
/** How many of the ranks run on this rank's node, itself included: what threads and memory of the
 *  node are shared by. */
uint32_t sm_ranks_on_node(const sm_ranks *ranks);

/** Collective: bytes of rank 0 to all. Whoever waits in a collective call sleeps. */
SM_NODISCARD sm_status sm_ranks_bcast(sm_ranks *ranks, void *bytes, size_t len, sm_error *err);
/** Collective: SM_OK iff all ranks say ok; the error of the lowest failing rank otherwise. */
SM_NODISCARD sm_status sm_ranks_agree(sm_ranks *ranks, sm_status mine, sm_error *err);

/** Send a small message (copied; at most SM_MESSAGE_MAX bytes). To oneself is allowed. Never blocks
 *  on the receiver. */
SM_NODISCARD sm_status sm_ranks_send(sm_ranks *ranks, uint32_t to, const void *bytes, size_t len,
                                     sm_error *err);
/** Take one message if there is one: *from, *len; *got false if none. Does not block. */
SM_NODISCARD sm_status sm_ranks_poll(sm_ranks *ranks, void *bytes, size_t cap, size_t *len,
                                     uint32_t *from, bool *got, sm_error *err);

/** Collective end: waits for pending sends, MPI_Finalize. */
void sm_ranks_finish(sm_ranks **ranks);
/** Not collective: this rank cannot go on; MPI_Abort(code), does not return. Only for main. */
_Noreturn void sm_ranks_abort(sm_ranks *ranks, int code);
/** "Open MPI 4.1.4", "none". Static. */
const char *sm_ranks_library(void);

#endif
