// use_cpp FILE - the same as use_c, as C++11 would have it: handles that close themselves,
// and raw loads from as many coroutines as there are pages, each awaited first.
#include <quire/quire.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

struct CloseCache {
	void operator()(quire_cache *cache) const { quire_cache_close(cache); }
};
struct DestroyMap {
	void operator()(quire_map *map) const { quire_map_destroy(map, nullptr); }
};
struct DestroyLoop {
	void operator()(quire_loop *loop) const { quire_loop_destroy(loop); }
};

void must(int rc, const quire_error &err)
{
	if (rc < 0)
		throw std::runtime_error(err.text);
}

struct Page {
	quire_map *map;
	const char *mapped;
	const char *expected;
	size_t len_bytes;
	int64_t result;

	static void compare(void *arg)
	{
		Page *page = static_cast<Page *>(arg);
		iovec range = {const_cast<char *>(page->mapped), page->len_bytes};
		page->result = quire_map_want(page->map, &range, 1, QUIRE_WANT_PIN, nullptr);
		if (page->result < 0)
			return;
		if (std::memcmp(page->mapped, page->expected, page->len_bytes) != 0)
			page->result = -1;
		quire_map_unwant(page->map, &range, 1);
	}
};

void run(const char *path)
{
	quire_error err = quire_error();
	std::ifstream file(path, std::ios::binary);
	const std::string expected((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());

	quire_cache *raw_cache = nullptr;
	must(quire_cache_open(nullptr, &raw_cache, &err), err);
	std::unique_ptr<quire_cache, CloseCache> cache(raw_cache);

	quire_item item = quire_item();
	item.path = path;
	quire_map *raw_map = nullptr;
	must(quire_map_create(cache.get(), &item, 1, nullptr, &raw_map, &err), err);
	std::unique_ptr<quire_map, DestroyMap> map(raw_map);

	quire_loop *raw_loop = nullptr;
	must(quire_loop_create(nullptr, &raw_loop, &err), err);
	std::unique_ptr<quire_loop, DestroyLoop> loop(raw_loop);

	const void *start = nullptr;
	size_t len_bytes = 0;
	if (quire_map_item(map.get(), 0, &start, &len_bytes) < 0 || len_bytes != expected.size())
		throw std::runtime_error("the item has another length than the file");

	const size_t page_bytes = size_t(1) << quire_map_page_shift(map.get());
	std::vector<Page> pages;
	for (size_t at = 0; at < len_bytes; at += page_bytes) {
		const size_t len = len_bytes - at < page_bytes ? len_bytes - at : page_bytes;
		pages.push_back(Page{map.get(), static_cast<const char *>(start) + at, expected.data() + at, len, -1});
	}
	for (Page &page : pages)
		if (quire_co_spawn(loop.get(), Page::compare, &page) < 0)
			throw std::runtime_error("quire_co_spawn");
	if (quire_loop_run(loop.get()) < 0)
		throw std::runtime_error("quire_loop_run");
	for (const Page &page : pages)
		if (page.result != 0)
			throw std::runtime_error("not the same bytes");
}

} // namespace

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	try {
		run(argv[1]);
	} catch (const std::exception &error) {
		std::fprintf(stderr, "%s: %s\n", argv[1], error.what());
		return 1;
	}
	std::printf("quire %s: the same bytes\n", quire_version());
	return 0;
}
