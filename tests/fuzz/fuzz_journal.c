/* Fuzz target: a journal, an answer of a worker, a job. After a first byte 's' every line is given
 * the checksum it should have, so that what stands behind the checksum is reached too. */
#include <stdlib.h>
#include <string.h>

#include "common/digest.h"
#include "common/path.h"
#include "ingest/journal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool fact)
{
    if (!fact)
        abort();
}

/* What was read can be written, and reading that gives the same again. */
static void write_again(const sm_outcome *outcome)
{
    sm_error err = SM_ERROR_INIT;
    sm_buf once = {0}, twice = {0};
    sm_outcome again;
    must(outcome->slide > 0 && outcome->n_source_digests <= 2);
    for (size_t i = 0; i < outcome->n_parts; i++)
        must(sm_path_check(outcome->parts[i].path, &err) == SM_OK);
    if (sm_outcome_to_json(outcome, &once, &err) == SM_OK) {
        must(sm_outcome_from_json((const char *)once.data, once.len, &again, &err) == SM_OK);
        must(sm_outcome_to_json(&again, &twice, &err) == SM_OK);
        must(once.len == twice.len && memcmp(once.data, twice.data, once.len) == 0);
        sm_outcome_clear(&again);
    }
    sm_buf_free(&once);
    sm_buf_free(&twice);
}

static void read_journal(const uint8_t *bytes, size_t len)
{
    sm_error err = SM_ERROR_INIT;
    sm_source *source = NULL;
    sm_journal_reader *reader = NULL;
    sm_journal_event event = {0};
    bool more = true, has_head = false;
    if (sm_source_open_memory(bytes, len, "fuzz", &source, &err) != SM_OK ||
        sm_journal_open(source, &reader, &err) != SM_OK) {
        sm_source_close(&source);
        return;
    }
    while (more) {
        const sm_status st = sm_journal_next(reader, &event, &more, &err);
        if (st == SM_ERR_FORMAT)
            break;
        must(st == SM_OK || st == SM_ERR_CORRUPT || st == SM_ERR_NOMEM);
        if (st != SM_OK || !more)
            continue;
        must((event.kind == SM_JOURNAL_HEAD) != has_head);
        has_head = true;
        if (event.kind == SM_JOURNAL_END)
            write_again(&event.outcome);
    }
    must(sm_journal_torn(reader) <= len);
    sm_journal_event_clear(&event);
    sm_journal_close(&reader);
    sm_source_close(&source);
}

/* Each line, without what may stand behind ,"x":" already, with its checksum. */
static void seal_lines(const uint8_t *bytes, size_t len, sm_buf *out)
{
    static const char SEAL[] = ",\"x\":\"";
    sm_error err = SM_ERROR_INIT;
    while (len > 0) {
        const uint8_t *newline = memchr(bytes, '\n', len);
        const size_t line = newline != NULL ? (size_t)(newline - bytes) : len;
        const uint8_t *seal = memmem(bytes, line, SEAL, sizeof SEAL - 1);
        const size_t body = seal != NULL ? (size_t)(seal - bytes) : line;
        const sm_digest sum = sm_digest_xxh128(bytes, body);
        char hex[SM_DIGEST_HEX_CAP];
        if (sm_buf_append(out, bytes, body, &err) != SM_OK ||
            sm_buf_printf(out, &err, "%s%s\"}\n", SEAL, sm_digest_hex(&sum, hex)) != SM_OK)
            return;
        bytes += line + (newline != NULL);
        len -= line + (newline != NULL);
    }
}

static void read_job(const uint8_t *bytes, size_t len)
{
    sm_error err = SM_ERROR_INIT;
    sm_buf text = {0}, again = {0};
    sm_job job;
    if (sm_buf_append(&text, bytes, len, &err) == SM_OK &&
        sm_buf_append(&text, "", 1, &err) == SM_OK &&
        sm_job_from_json((const char *)text.data, &job, &err) == SM_OK) {
        must(sm_path_check(job.main.path, &err) == SM_OK);
        must(sm_job_to_json(&job, &again, &err) == SM_OK);
        sm_job_clear(&job);
    }
    sm_buf_free(&text);
    sm_buf_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sm_error err = SM_ERROR_INIT;
    sm_buf sealed = {0};
    sm_outcome outcome;
    if (size == 0)
        return 0;
    switch (data[0]) {
    case 's':
        seal_lines(data + 1, size - 1, &sealed);
        read_journal(sealed.data, sealed.len);
        break;
    case 'o':
        if (sm_outcome_from_json((const char *)data + 1, size - 1, &outcome, &err) == SM_OK) {
            write_again(&outcome);
            sm_outcome_clear(&outcome);
        }
        break;
    case 'j':
        read_job(data + 1, size - 1);
        break;
    default:
        read_journal(data, size);
    }
    sm_buf_free(&sealed);
    return 0;
}
