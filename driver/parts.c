// SPDX-License-Identifier: GPL-2.0-only
/*
 * parts.c - the memory of one device, split into parts: each a segment of its own
 *
 * What is not split is one part. All parts of a device start, or none does: where one
 * holds something else, the split is not that of the others who share the memory, and
 * a part that looks blank may well lie in the middle of their data.
 */
#include <linux/log2.h>
#include <linux/module.h>
#include <linux/moduleparam.h>

#include "driver.h"

/*
 * How often a memory is looked at for segments, for each part. What was never touched costs
 * the host a page for each look, which may have 2 MiB: a large one is not looked at everywhere.
 */
#define VINE_MAX_LOOKS	256

#define VINE_SPLIT_FORM	"[DEVICE=]SIZE[@OFFSET][,SIZE[@OFFSET]...], such as 1G,512M or 0000:00:04.0=2G@2G"

/* Under kernel_param_lock(): it may be changed, for devices that are bound later. */
static char vine_split[512];

/* As dev_name() has it: a shorter form would match no device, which would be used whole. */
static bool vine_is_device_name(const char *name, size_t len)
{
	unsigned int domain, bus, slot, function;
	char full[32];

	if (len == strlen("vine_loopback") && !strncmp(name, "vine_loopback", len))
		return true;
	return sscanf(name, "%x:%x:%x.%x", &domain, &bus, &slot, &function) == 4 &&
		snprintf(full, sizeof(full), "%04x:%02x:%02x.%x", domain, bus, slot,
			 function) == len && !strncmp(name, full, len);
}

/*
 * The parts of @device: those behind its name, or else those before any name. NULL, or
 * what is wrong at @at. Without a device: could there be one?
 */
static const char *vine_split_parse(const char **at, const char *device,
				    struct vine_parts *parts)
{
	bool ours = device;
	u64 offset, size, end = 0;
	u32 count = 0;
	char *next;
	size_t len;

	if (!**at)
		return NULL;
	for (;; *at = next + 1) {
		len = strcspn(*at, ",=");
		if ((*at)[len] == '=') {
			if (!vine_is_device_name(*at, len))
				return "not the full name of a device";
			ours = device && strlen(device) == len && !strncmp(*at, device, len);
			*at += len + 1;
			end = 0;
			count = 0;
		}
		size = memparse(*at, &next);
		offset = end;
		if (*next == '@') {
			*at = next + 1;
			offset = memparse(*at, &next);
		}
		if (next == *at || (*next && *next != ','))
			return "not understood";
		if (size < VINE_MIN_SEGMENT)
			return "a part has at least 8M";
		/* of the largest page that a machine may have, so that it is alike on all */
		if ((size | offset) & ((1 << VINE_MIN_CHUNK_SHIFT) - 1))
			return "not a multiple of 64K";
		if (offset < end)
			return "not behind the part before it";
		if (offset + size < offset || count == VINE_MAX_DEVICES)
			return "too much";
		if (ours) {
			parts->part[count].offset = offset;
			parts->part[count].size = size;
			parts->count = count + 1;
		}
		count++;
		end = offset + size;
		if (!*next)
			return NULL;
	}
}

static int vine_split_set(const char *val, const struct kernel_param *kp)
{
	char value[sizeof(vine_split)];
	const char *at = value, *wrong;

	if (strscpy(value, val, sizeof(value)) < 0) {
		pr_err("vine: split= has more than %zu characters\n", sizeof(value) - 1);
		return -ENOSPC;
	}
	value[strcspn(value, "\n")] = 0;	/* it came through sysfs */
	wrong = vine_split_parse(&at, NULL, NULL);
	if (wrong) {
		pr_err("vine: split=%s: at '%s': %s; expected " VINE_SPLIT_FORM "\n", value, at,
		       wrong);
		return -EINVAL;
	}
	strscpy(vine_split, value, sizeof(vine_split));
	return 0;
}

static int vine_split_get(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%s\n", vine_split);
}

static const struct kernel_param_ops vine_split_ops = {
	.set = vine_split_set,
	.get = vine_split_get,
};
module_param_cb(split, &vine_split_ops, NULL, 0644);
MODULE_PARM_DESC(split, "parts of the memory, each with a node: " VINE_SPLIT_FORM);

/* What the parameter says of this device. */
static int vine_parts_split(struct vine_parts *parts, struct device *dev, u64 size)
{
	u64 end = 0;
	const char *at;
	int err = 0;

	kernel_param_lock(THIS_MODULE);
	at = vine_split;
	vine_split_parse(&at, dev_name(dev), parts);	/* it was right when it was set */
	if (parts->count)
		end = parts->part[parts->count - 1].offset + parts->part[parts->count - 1].size;
	if (end > size) {
		dev_err(dev, "split=%s: the parts need %llu bytes of memory, the device has %llu: left alone\n",
			vine_split, end, size);
		err = -EINVAL;
	}
	kernel_param_unlock(THIS_MODULE);
	if (!parts->count) {
		parts->part[0].size = size;
		parts->count = 1;
	}
	return err;
}

/**
 * vine_parts_alloc() - what the memory of a device is to be
 * @parts: filled in; zeroed before
 * @parent: the PCI or platform device
 * @size: of its memory
 *
 * Return: 0, to be given back by vine_parts_free(), or an error, explained in the log.
 */
int vine_parts_alloc(struct vine_parts *parts, struct device *parent, u64 size)
{
	struct vine_dev *vdev;
	int err;
	u32 i;

	err = vine_parts_split(parts, parent, size);
	for (i = 0; !err && i < parts->count; i++) {
		vdev = vine_dev_alloc(parent, parts->part[i].offset, parts->part[i].size);
		if (IS_ERR(vdev)) {
			err = PTR_ERR(vdev);
			dev_err(parent, "no node for the part %llu@%llu: error %d; there can be %u nodes\n",
				parts->part[i].size, parts->part[i].offset, err,
				VINE_MAX_DEVICES);
			break;
		}
		parts->part[i].vdev = vdev;
	}
	if (err)
		vine_parts_free(parts);
	return err;
}

static u64 vine_format_at(const struct vine_bus *bus, u64 at)
{
	return le64_to_cpu(READ_ONCE(*(const __le64 *)(bus->base + at)));
}

/* The first format that is seen in [at, end); @end when there is none. */
static u64 vine_next_segment(const struct vine_bus *bus, u64 at, u64 end, u64 step,
			     struct vine_geometry *geo)
{
	for (; at < end; at = round_down(at, step) + step)
		if (!vine_geometry_of(vine_format_at(bus, at), U64_MAX, geo))
			return at;
	return end;
}

/**
 * vine_part_check() - may a part be joined, or made?
 * @vdev: the part, with .bus filled in
 * @say: in the log, why not
 *
 * Not where a segment of others reaches into it, or begins in it while it is blank. What lies
 * within a segment is its users', and says nothing.
 *
 * Return: 0 or -EBUSY.
 */
int vine_part_check(struct vine_dev *vdev, bool say)
{
	u64 at = 0, end = vdev->offset + vdev->size;
	u64 step = roundup_pow_of_two(end / VINE_MAX_LOOKS);
	const struct vine_bus *bus = &vdev->bus;
	struct vine_geometry geo;

	step = max(step, VINE_PLACE);
	while ((at = vine_next_segment(bus, at, vdev->offset, step, &geo)) < vdev->offset) {
		if (geo.size > vdev->offset - at)
			goto shared;
		at += geo.size;
	}
	if (vine_format_at(bus, vdev->offset))
		return 0;
	at = vine_next_segment(bus, round_down(vdev->offset, step) + step, end, step, &geo);
	/* or another machine has begun ours meanwhile, and that lies within it */
	if (at == end || vine_format_at(bus, vdev->offset))
		return 0;
shared:
	if (say)
		dev_err(vdev->dev.parent, "a segment of %llu bytes begins at byte %llu, and one of %llu at %llu would share bytes with it: left alone; split the memory as others do, or, if nobody needs that segment, make it blank: vinectl wipe\n",
			geo.size, at, vdev->size, vdev->offset);
	return -EBUSY;
}

/**
 * vine_parts_start() - start all parts, or none
 * @parts: from vine_parts_alloc()
 * @bus: filled in, with interrupts that work
 *
 * Undone by vine_parts_stop() and vine_parts_leave(), with the interrupts freed in
 * between.
 */
int vine_parts_start(struct vine_parts *parts, const struct vine_bus *bus)
{
	struct vine_dev *vdev;
	int err = 0;
	u32 i;

	/* all are looked at before any is written to */
	for (i = 0; !err && i < parts->count; i++) {
		vdev = parts->part[i].vdev;
		vdev->bus = *bus;
		vdev->base = bus->base + vdev->offset;
		err = vine_dev_check(vdev);
		if (!err)
			err = vine_part_check(vdev, true);
	}
	for (i = 0; !err && i < parts->count; i++) {
		vdev = parts->part[i].vdev;
		err = vine_dev_start(vdev);
	}
	if (!err)
		return 0;
	if (parts->count > 1 || vdev->offset)
		dev_err(vdev->dev.parent, "that is its part %llu@%llu; no part is used. Do all who share the memory split it alike?\n",
			vdev->size, vdev->offset);
	vine_parts_stop(parts);
	vine_parts_leave(parts);
	return err;
}

/* In an interrupt: parts that have not started, or have stopped, are passed over. */
void vine_parts_drain(struct vine_parts *parts, u32 vector)
{
	u32 i;

	for (i = 0; i < parts->count; i++)
		vine_dev_drain(parts->part[i].vdev, vector);
}

void vine_parts_stop(struct vine_parts *parts)
{
	u32 i;

	for (i = 0; i < parts->count; i++)
		vine_dev_stop(parts->part[i].vdev);
}

void vine_parts_leave(struct vine_parts *parts)
{
	u32 i;

	for (i = 0; i < parts->count; i++)
		vine_dev_leave(parts->part[i].vdev);
}

void vine_parts_free(struct vine_parts *parts)
{
	u32 i;

	for (i = 0; i < parts->count; i++)
		if (parts->part[i].vdev)
			vine_dev_free(parts->part[i].vdev);
}
