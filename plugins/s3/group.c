/* group.c - several requests side by side on behalf of one operation.
 *
 * Each member runs on its own: its request's end asks step() for the next one, on whatever thread that
 * was. Who ends last calls over(). One more than the members counts as running until all are started, so
 * that a group cannot be over while it is being started.
 *
 * Cancelling: s3_cancel marks the operation's own request first and looks for a group then; a group is
 * published first and looks at that mark then. One of the two sees the other. */
#include "group.h"

#include <string.h>

struct s3_group *s3_group_new(pst_backend *store, pst_op *op, uint32_t n)
{
    struct s3_group *group = s3_alloc(op, sizeof(*group));
    struct s3_member *members = s3_alloc(op, n * sizeof(*members));
    if (!group || !members)
        return NULL;
    memset(group, 0, sizeof(*group));
    memset(members, 0, n * sizeof(*members));
    group->op = op;
    group->members = members;
    group->n = n;
    for (uint32_t i = 0; i < n; i++) {
        members[i].group = group;
        members[i].err = (pst_error)PST_ERROR_INIT;
        members[i].request.store = store;
        members[i].request.op = op;
    }
    return group;
}

static void end_member(struct s3_group *group)
{
    if (atomic_fetch_sub(&group->n_running, 1) != 1)
        return;
    atomic_store(&s3_call_of(group->op)->group, NULL);
    group->over(group);
}

static void on_done(struct s3_request *request, pst_rc rc, const pst_http_reply *reply)
{
    struct s3_member *member = (struct s3_member *)request;
    struct s3_group *group = member->group;
    if (group->step(member, rc, reply) != PST_PENDING)
        end_member(group);
}

void s3_group_start(struct s3_group *group)
{
    struct s3_call *call = s3_call_of(group->op);
    uint32_t n = group->n;
    atomic_store(&group->n_running, n + 1);
    for (uint32_t i = 0; i < n; i++)
        s3_request_tidy(&group->members[i].request, group->is_tidying != 0);
    if (!group->is_tidying) {
        atomic_store(&call->group, group);
        if (atomic_load(&call->request.own.is_cancelled))
            s3_group_cancel(group);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (group->step(&group->members[i], PST_OK, NULL) != PST_PENDING)
            atomic_fetch_sub(&group->n_running, 1);
    }
    end_member(group);
}

void s3_member_init(struct s3_member *member, const char *method, pst_str key)
{
    member->err = (pst_error)PST_ERROR_INIT;
    s3_request_init(&member->request, member->request.store, member->request.op, method, key);
    member->request.err = &member->err;
    member->request.done = on_done;
}

void s3_group_cancel(struct s3_group *group)
{
    for (uint32_t i = 0; i < group->n; i++)
        s3_request_cancel(&group->members[i].request);
}
