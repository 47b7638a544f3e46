/* torture.h - make the n-th allocation fail.
 *
 *     for (unsigned n = 1;; n++) {
 *         torture_arm(n);
 *         rc = code_under_test();
 *         if (!torture_disarm())
 *             break;            // nothing failed: it went through
 *         assert_int_equal(rc, PST_E_NO_MEMORY);
 *         assert_int_equal(torture_live(), before);
 *     }
 */
#ifndef PST_TEST_TORTURE_H
#define PST_TEST_TORTURE_H

/* Count from now on and fail the n-th allocation (1 is the next), once. */
void torture_arm(unsigned n);

/* Stop failing. Was the n-th allocation reached? */
int torture_disarm(void);

/* Allocations that were not freed yet, of the program and the archives in it. */
long torture_live(void);

/* Send jansson's allocations the same way. At the start of main, before it is used. */
void torture_jansson(void);

#endif
