/* io_faults.h - system calls on files that fail by a seeded schedule.
 *
 *     io_faults_arm(seed, i, 40);
 *     rc = one_operation();
 *     n = io_faults_disarm();
 *     if (n == 0)
 *         assert_int_equal(rc, PST_OK);
 *     else if (rc == PST_E_IO)
 *         assert_true(io_faults_had(err.sys_errno));
 */
#ifndef PST_TEST_IO_FAULTS_H
#define PST_TEST_IO_FAULTS_H

#include <stdint.h>

enum io_fault_call {
    IO_FAULT_READ,
    IO_FAULT_WRITE,
    IO_FAULT_OPEN,
    IO_FAULT_CREATE, /* openat with O_CREAT, mkdirat */
    IO_FAULT_SYNC,
    IO_FAULT_RENAME, /* and linkat */
    IO_FAULT_UNLINK,
    IO_FAULT_STAT,
    IO_FAULT_LIST,
    IO_FAULT_TRUNCATE, /* and fallocate */
    IO_FAULT_COPY,
    IO_FAULT_CLOSE,
    IO_FAULT_XATTR,
    IO_FAULT_ENTER,    /* io_uring_submit_and_wait itself */
    IO_FAULT_COMPLETE, /* a request on a ring */
    IO_FAULT_CALLS
};

/* From now on about one call in `one_in` fails: which, and how, follows from seed, `turn`, the kind of
 * call and its number since then. */
void io_faults_arm(uint64_t seed, uint64_t turn, unsigned one_in);

/* No more failures. Returns how many there were since io_faults_arm. */
unsigned io_faults_disarm(void);

/* Was this error given since io_faults_arm? */
int io_faults_had(int sys_errno);

/* The calling thread is left alone from now on. */
void io_faults_spare_thread(void);

/* Failures of one kind since the program started, and its name. */
unsigned long io_faults_total(enum io_fault_call call);
const char *io_faults_name(enum io_fault_call call);

#endif
