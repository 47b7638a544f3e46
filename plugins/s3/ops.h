/* ops.h - the slots, one file each; and what they share. */
#ifndef PST_S3_OPS_H
#define PST_S3_OPS_H

#include "s3.h"

pst_rc s3_read(pst_backend *, pst_op *, const pst_read_args *, pst_read_result *);
pst_rc s3_stat(pst_backend *, pst_op *, const pst_stat_args *, pst_attr *);
pst_rc s3_put(pst_backend *, pst_op *, const pst_put_args *, pst_put_result *);
pst_rc s3_copy(pst_backend *, pst_op *, const pst_copy_args *, pst_put_result *);
pst_rc s3_remove(pst_backend *, pst_op *, const pst_remove_args *, pst_remove_result *);
pst_rc s3_list(pst_backend *, pst_op *, const pst_list_args *, pst_list_result *);
pst_rc s3_upload_open(pst_backend *, pst_op *, const pst_put_args *, pst_upload_result *);
pst_rc s3_upload_part(pst_upload *, pst_op *, const pst_part_args *, pst_result *);
pst_rc s3_upload_commit(pst_upload *, pst_op *, const pst_commit_args *, pst_put_result *);
pst_rc s3_upload_abort(pst_upload *, pst_op *, const pst_abort_args *, pst_result *);
void s3_upload_free(pst_upload *);
pst_rc s3_container_create(pst_backend *, pst_op *, const pst_container_args *, pst_result *);
pst_rc s3_container_delete(pst_backend *, pst_op *, const pst_container_args *, pst_result *);
pst_rc s3_container_list(pst_backend *, pst_op *, const pst_list_args *, pst_list_result *);
pst_rc s3_presign(pst_backend *, pst_op *, const pst_presign_args *, pst_presign_result *);
pst_rc s3_cleanup(pst_backend *, pst_op *, const pst_cleanup_args *, pst_cleanup_result *);

/* The slots cancel and dst_ready. */
void s3_cancel(pst_backend *, pst_op *);
void s3_dst_ready(pst_backend *, pst_op *);

/* Blanks that kept a connection alive may stand before an XML declaration, where none may be. */
pst_str s3_skip_blanks(pst_str document);

/* Copy what both have room for; struct_size stays its owner's. */
void s3_error_copy(pst_error *to, const pst_error *from);

#endif
