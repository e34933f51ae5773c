/* A list that is searched: a volume has tens of bricks, not thousands. */
#include "ingest/brick_table.h"

#include <stdlib.h>
#include <string.h>

#include "common/buf.h"

static sm_status add(sm_brick_table *t, const char *name, sm_error *err)
{
    if (t->n == t->cap) {
        const uint32_t cap = t->cap > 0 ? 2 * t->cap : 16;
        char **grown = reallocarray(t->names, cap, sizeof *grown);
        if (grown == NULL)
            return sm_fail(err, SM_ERR_NOMEM, "no memory for %u bricks", cap);
        t->names = grown;
        t->cap = cap;
    }
    t->names[t->n] = strdup(name);
    if (t->names[t->n] == NULL)
        return sm_fail(err, SM_ERR_NOMEM, "no memory for a brick's name");
    t->last = t->n++;
    return SM_OK;
}

sm_status sm_brick_table_index(sm_brick_table *t, const char *name, uint32_t *index, sm_error *err)
{
    sm_status st = SM_OK;
    *index = SM_BRICK_UNKNOWN;
    if (name == NULL || *name == '\0')
        return SM_OK;
    if (t->n == 0 || strcmp(t->names[t->last], name) != 0) {
        uint32_t i = 0;
        while (i < t->n && strcmp(t->names[i], name) != 0)
            i++;
        t->last = i;
        if (i == t->n)
            st = add(t, name, err);
    }
    if (st == SM_OK)
        *index = t->last;
    else
        t->last = 0;
    return st;
}

void sm_brick_table_clear(sm_brick_table *t)
{
    for (uint32_t i = 0; i < t->n; i++)
        free(t->names[i]);
    free(t->names);
    *t = (sm_brick_table){0};
}
