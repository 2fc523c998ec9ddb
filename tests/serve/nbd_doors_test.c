/* nbd_doors_test.c - sockets that are listened at, options, names of exports, and TLS as far as it goes without a key. */
#include "nbd_env.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static char directory[64];

static int enter_directory(void **state)
{
	snprintf(directory, sizeof(directory), "/tmp/quire-nbd-XXXXXX");
	return mkdtemp(directory) == NULL;
}

static int leave_directory(void **state)
{
	return rmdir(directory);
}

static const char *path_of(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return path;
}

static struct quire_nbd *server(const struct quire_nbd_options *opts)
{
	struct quire_nbd *nbd;

	assert_int_equal(quire_nbd_create(opts, &nbd, NULL), 0);
	return nbd;
}

static void test_unix_sockets_are_the_users_own(void **state)
{
	struct quire_nbd *nbd = server(NULL);
	struct stat st;
	char text[256];

	assert_int_equal(quire_nbd_listen_unix(nbd, path_of("s"), NULL), 0);
	assert_int_equal(stat(path_of("s"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(quire_nbd_address(nbd, 0, text, sizeof(text)), 0);
	assert_memory_equal(text, "unix:/tmp/quire-nbd-", 20);
	assert_int_equal(quire_nbd_address(nbd, 1, text, sizeof(text)), -ENOENT);
	assert_int_equal(quire_nbd_destroy(nbd), 0);
	assert_int_equal(access(path_of("s"), F_OK), -1);
}

static void test_a_dead_servers_socket_is_replaced_and_no_other(void **state)
{
	struct quire_nbd *nbd = server(NULL);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char too_long[300];

	assert_true(strlen(path_of("s")) < sizeof(address.sun_path));
	strcpy(address.sun_path, path_of("s"));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	assert_int_equal(quire_nbd_listen_unix(nbd, path_of("s"), NULL), 0);
	assert_int_equal(quire_nbd_listen_unix(nbd, path_of("s"), NULL), -EADDRINUSE);
	fd = open(path_of("file"), O_CREAT | O_CLOEXEC | O_WRONLY, 0600);
	close(fd);
	assert_int_equal(quire_nbd_listen_unix(nbd, path_of("file"), NULL), -EEXIST);
	assert_int_equal(unlink(path_of("file")), 0);
	assert_int_equal(quire_nbd_listen_unix(nbd, path_of("no/s"), NULL), -ENOENT);
	assert_int_equal(quire_nbd_listen_unix(nbd, "", NULL), -EINVAL);
	memset(too_long, 'a', sizeof(too_long) - 1);
	too_long[sizeof(too_long) - 1] = '\0';
	assert_int_equal(quire_nbd_listen_unix(nbd, too_long, NULL), -ENAMETOOLONG);
	assert_int_equal(quire_nbd_destroy(nbd), 0);
}

static void test_tcp_beyond_this_machine_only_if_told_so(void **state)
{
	struct quire_nbd_options plain = {.size = sizeof(plain), .plain_remote = true};
	struct quire_nbd *nbd = server(NULL), *open_one = server(&plain);
	char text[256];

	assert_int_equal(quire_nbd_listen_tcp(nbd, "0.0.0.0", "0", NULL), -EPERM);
	assert_int_equal(quire_nbd_listen_tcp(nbd, "::", "0", NULL), -EPERM);
	assert_int_equal(quire_nbd_address(nbd, 0, text, sizeof(text)), -ENOENT);
	assert_int_equal(quire_nbd_listen_tcp(nbd, "127.0.0.1", "0", NULL), 0);
	assert_int_equal(quire_nbd_address(nbd, 0, text, sizeof(text)), 0);
	assert_memory_equal(text, "tcp:127.0.0.1:", 14);
	assert_int_equal(quire_nbd_listen_tcp(nbd, "127.0.0.1", "no such port", NULL), -EINVAL);
	assert_int_equal(quire_nbd_listen_tcp(open_one, "0.0.0.0", "0", NULL), 0);
	assert_int_equal(quire_nbd_destroy(nbd), 0);
	assert_int_equal(quire_nbd_destroy(open_one), 0);
}

static void test_sockets_of_others(void **state)
{
	struct quire_nbd *nbd = server(NULL);
	int ends[2], pair[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(quire_nbd_connect_fd(nbd, ends[0], NULL), -EINVAL);
	assert_int_equal(quire_nbd_connect_fd(nbd, -1, NULL), -EINVAL);
	assert_int_equal(quire_nbd_listen_fd(nbd, pair[0], NULL), -EINVAL);
	assert_int_equal(quire_nbd_listen_fd(nbd, ends[0], NULL), -EINVAL);
	int datagrams = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(quire_nbd_connect_fd(nbd, datagrams, NULL), -EINVAL);
	assert_int_equal(quire_nbd_connect_fd(nbd, pair[0], NULL), 0);
	assert_int_equal(quire_nbd_destroy(nbd), 0);
	const int fds[] = {ends[0], ends[1], pair[1], datagrams};
	for (unsigned i = 0; i < 4; i++)
		close(fds[i]);
}

static void test_inherited_sockets_are_for_this_process_alone(void **state)
{
	struct quire_nbd *nbd = server(NULL);
	char pid[32];

	snprintf(pid, sizeof(pid), "%ld", (long)getpid() + 1);
	setenv("LISTEN_PID", pid, 1);
	setenv("LISTEN_FDS", "1", 1);
	assert_int_equal(quire_nbd_listen_inherited(nbd, NULL), 0);
	assert_null(getenv("LISTEN_FDS"));
	assert_int_equal(quire_nbd_listen_inherited(nbd, NULL), 0);
	assert_int_equal(quire_nbd_destroy(nbd), 0);
}

static void test_names_of_exports(void **state)
{
	struct quire_nbd *nbd = server(NULL);
	char longest[4098];

	memset(longest, 'a', sizeof(longest));
	longest[4097] = '\0';
	assert_int_equal(quire_nbd_add_memory(nbd, longest, 4096, NULL), -EINVAL);
	assert_int_equal(quire_nbd_add_memory(nbd, longest + 1, 4096, NULL), 0);
	assert_int_equal(quire_nbd_add_memory(nbd, "\xff", 4096, NULL), -EINVAL);
	assert_int_equal(quire_nbd_add_memory(nbd, "a", 4096, NULL), 0);
	assert_int_equal(quire_nbd_add_memory(nbd, "a", 4096, NULL), -EEXIST);
	assert_int_equal(quire_nbd_add_memory(nbd, "b", 0, NULL), -EINVAL);
	assert_int_equal(quire_nbd_add_file(nbd, "b", "/", 0, NULL), -EISDIR);
	assert_int_equal(quire_nbd_add_file(nbd, "b", "/dev/null", 0, NULL), -EINVAL);
	assert_int_equal(quire_nbd_add_file(nbd, "b", path_of("no"), 0, NULL), -ENOENT);
	assert_int_equal(quire_nbd_add_file(nbd, "b", path_of("no"), 2, NULL), -EINVAL);
	assert_int_equal(quire_nbd_destroy(nbd), 0);
}

static void test_bad_options(void **state)
{
	const struct quire_nbd_options bad[] = {
		{.size = 8},
		{.size = sizeof(bad[0]), .connections = 65537},
		{.size = sizeof(bad[0]), .requests = 4097},
		{.size = sizeof(bad[0]), .bytes = (32u << 20) - 1},
		{.size = sizeof(bad[0]), .connection_bytes = 1},
		{.size = sizeof(bad[0]), .tls_certificates = "/", .tls_psk = "/"},
		{.size = sizeof(bad[0]), .tls_psk = "/", .tls_verify_clients = true},
		{.size = sizeof(bad[0]), .tls_verify_clients = true},
	};
	struct quire_nbd *nbd;

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(quire_nbd_create(&bad[i], &nbd, NULL), -EINVAL);
}

/* ---- TLS ---- */

static void write_keys(const char *text)
{
	FILE *file = fopen(path_of("keys"), "we");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

/* A server that has keys, and so many clients; handshake_ms of 0: all the time they need. */
static void start_encrypting(struct env *env, unsigned n_clients, unsigned handshake_ms)
{
	struct quire_nbd_options opts = {.size = sizeof(opts), .tls_psk = path_of("keys"), .handshake_ms = handshake_ms};
	struct quire_nbd *nbd;

	write_keys("somebody:00112233445566778899aabbccddeeff\n");
	int rc = quire_nbd_create(&opts, &nbd, NULL);
	if (rc == -ENOTSUP) {
		unlink(opts.tls_psk);
		print_message("skipped: GnuTLS can't be loaded here\n");
		skip();
	}
	assert_int_equal(rc, 0);
	assert_int_equal(quire_nbd_destroy(nbd), 0);
	env_start(env, &opts, n_clients);
	assert_int_equal(unlink(opts.tls_psk), 0);
}

static void test_nothing_goes_without_tls(void **state)
{
	static const uint32_t options[] = {NBD_OPT_LIST, NBD_OPT_INFO, NBD_OPT_GO, NBD_OPT_STRUCTURED_REPLY,
	                                   NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT, 77};
	uint8_t text[8192];
	struct env env;

	start_encrypting(&env, 3, 0);
	greet(&env, NBD_FIXED_NEWSTYLE);
	for (unsigned i = 0; i < 7; i++) {
		say_option(&env, options[i], text, i % 2 ? make_go(text, "disk", 4, 0, NULL) : 0);
		expect_reply(&env, options[i], NBD_REP_ERR_TLS_REQD, text);
	}
	say_option(&env, NBD_OPT_STARTTLS, "x", 1);
	expect_reply(&env, NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID, text);
	say_option(&env, NBD_OPT_ABORT, NULL, 0);
	expect_ack(&env, NBD_OPT_ABORT);
	expect_end(&env);
	for (unsigned i = 1; i < 3; i++) {
		env_talk_to(&env, i);
		greet(&env, i == 1 ? NBD_FIXED_NEWSTYLE : 0);
		say_option(&env, NBD_OPT_EXPORT_NAME, "disk", 4);
		expect_end(&env);
	}
	env_stop(&env);
}

/* What came along in plain text is not taken for what was said under TLS. */
static void test_what_is_slipped_in_behind_starttls_ends_it(void **state)
{
	uint8_t text[64];
	struct env env;

	start_encrypting(&env, 1, 0);
	greet(&env, NBD_FIXED_NEWSTYLE);
	uint8_t *at = nbd_put32(nbd_put32(nbd_put64(text, NBD_OPTION_MAGIC), NBD_OPT_STARTTLS), 0);
	at = nbd_put32(nbd_put32(nbd_put64(at, NBD_OPTION_MAGIC), NBD_OPT_LIST), 0);
	say(&env, text, (size_t)(at - text));
	expect_end(&env);
	env_stop(&env);
}

/* An alert may come before. */
static void take_until_end(int fd)
{
	uint8_t text[256];

	while (recv(fd, text, sizeof(text), 0) > 0)
		continue;
}

static void test_what_is_no_tls_ends_it(void **state)
{
	static const char *const said[] = {"GET / HTTP/1.1\r\n\r\n", "IHAVEOPT\0\0\0\3\0\0\0\0"};
	struct env env;

	start_encrypting(&env, 2, 0);
	for (unsigned i = 0; i < 2; i++) {
		env_talk_to(&env, i);
		greet(&env, NBD_FIXED_NEWSTYLE);
		say_option(&env, NBD_OPT_STARTTLS, NULL, 0);
		expect_ack(&env, NBD_OPT_STARTTLS);
		say(&env, said[i], 16);
	}
	for (unsigned i = 0; i < 2; i++)
		take_until_end(env.fds[i]);
	env_stop(&env);
}

static void test_silence_where_tls_should_begin_ends_it(void **state)
{
	uint8_t text[NBD_GREETING_BYTES + NBD_OPTION_REPLY_BYTES];
	struct env env;
	ssize_t n = 0;

	/* Where all is slow, there is more time to come as far as that. */
	for (unsigned ms = 50; n != sizeof(text); ms *= 4) {
		assert_true(ms < 60000);
		start_encrypting(&env, 1, ms);
		nbd_put32(nbd_put32(nbd_put64(nbd_put32(text, NBD_FIXED_NEWSTYLE), NBD_OPTION_MAGIC), NBD_OPT_STARTTLS), 0);
		env.ends = true;
		say(&env, text, 4 + NBD_OPTION_BYTES);
		n = recv(env.fd, text, sizeof(text), MSG_WAITALL);
		take_until_end(env.fd);
		env_stop(&env);
	}
	assert_int_equal(nbd_get32(text + NBD_GREETING_BYTES + 12), NBD_REP_ACK);
}

static void test_keys_and_certificates_that_are_none(void **state)
{
	struct quire_nbd_options psk = {.size = sizeof(psk), .tls_psk = path_of("keys")};
	struct quire_nbd_options certificates = {.size = sizeof(certificates), .tls_certificates = directory};
	struct quire_nbd *nbd;
	int rc = quire_nbd_create(&psk, &nbd, NULL);

	if (rc == -ENOTSUP) {
		print_message("skipped: GnuTLS can't be loaded here\n");
		skip();
	}
	assert_int_equal(rc, -ENOENT);
	assert_int_equal(quire_nbd_create(&certificates, &nbd, NULL), -ENOENT);
	for (unsigned i = 0; i < 2; i++) {
		int fd = open(path_of(i == 0 ? "server-cert.pem" : "server-key.pem"), O_CREAT | O_CLOEXEC | O_WRONLY, 0600);
		assert_int_equal(write(fd, "no PEM\n", 7), 7);
		close(fd);
	}
	assert_int_equal(quire_nbd_create(&certificates, &nbd, NULL), -EINVAL);
	assert_int_equal(unlink(path_of("server-cert.pem")), 0);
	assert_int_equal(unlink(path_of("server-key.pem")), 0);
}

int main(void)
{
#define IN_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, enter_directory, leave_directory)
	const struct CMUnitTest tests[] = {
		IN_DIRECTORY(test_unix_sockets_are_the_users_own),
		IN_DIRECTORY(test_a_dead_servers_socket_is_replaced_and_no_other),
		cmocka_unit_test(test_tcp_beyond_this_machine_only_if_told_so),
		cmocka_unit_test(test_sockets_of_others),
		cmocka_unit_test(test_inherited_sockets_are_for_this_process_alone),
		IN_DIRECTORY(test_names_of_exports),
		cmocka_unit_test(test_bad_options),
		IN_DIRECTORY(test_nothing_goes_without_tls),
		IN_DIRECTORY(test_what_is_slipped_in_behind_starttls_ends_it),
		IN_DIRECTORY(test_what_is_no_tls_ends_it),
		IN_DIRECTORY(test_silence_where_tls_should_begin_ends_it),
		IN_DIRECTORY(test_keys_and_certificates_that_are_none),
	};
	return cmocka_run_group_tests_name("nbd doors", tests, NULL, NULL);
}
