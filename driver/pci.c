// SPDX-License-Identifier: GPL-2.0-only
/*
 * pci.c - QEMU's ivshmem device (docs/specs/ivshmem-spec.txt there)
 *
 * ivshmem-doorbell has MSI-X; ivshmem-plain has not, and is polled.
 */
#include <linux/completion.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/pci.h>

#include "driver.h"

#define IVSHMEM_BAR_REGISTERS	0
#define IVSHMEM_BAR_MEMORY	2
#define IVSHMEM_IVPOSITION	8
#define IVSHMEM_DOORBELL	12

#define VINE_SELF_TEST_MS	2000
#define VINE_SELF_TEST_STEP_MS	20

struct vine_pci;

struct vine_pci_vector {
	struct vine_pci *vp;
	u32 index;
};

struct vine_pci {
	struct vine_bus bus;
	struct vine_parts parts;
	void __iomem *registers;
	phys_addr_t memory;
	int requested;			/* vectors with a handler */
	struct completion heard;	/* an interrupt came, in the self-test */
	bool tested;
	struct vine_pci_vector vector[VINE_MAX_VECTORS];
};

static unsigned long vine_pci_pfn(struct vine_dev *vdev, pgoff_t page)
{
	struct vine_pci *vp = vdev->bus.priv;

	return ((vp->memory + vdev->offset) >> PAGE_SHIFT) + page;
}

static void vine_pci_doorbell(struct vine_dev *vdev, u32 ivposition, u32 vector)
{
	struct vine_pci *vp = vdev->bus.priv;

	/* a polled device need not ring: who talks to it polls too */
	if (vdev->bus.vectors)
		writel(ivposition << 16 | vector, vp->registers + IVSHMEM_DOORBELL);
}

static irqreturn_t vine_pci_interrupt(int irq, void *arg)
{
	struct vine_pci_vector *v = arg;

	if (!READ_ONCE(v->vp->tested))
		complete(&v->vp->heard);
	/* the parts share the vectors: who rang does not say for which */
	vine_parts_drain(&v->vp->parts, v->index);
	return IRQ_HANDLED;
}

static void vine_pci_free_irqs(struct pci_dev *pdev, struct vine_pci *vp)
{
	while (vp->requested) {
		vp->requested--;
		irq_update_affinity_hint(pci_irq_vector(pdev, vp->requested), NULL);
		free_irq(pci_irq_vector(pdev, vp->requested), &vp->vector[vp->requested]);
	}
	pci_free_irq_vectors(pdev);
}

static int vine_pci_request_irqs(struct pci_dev *pdev, struct vine_pci *vp)
{
	unsigned int cpu;
	int n, err;

	n = pci_alloc_irq_vectors(pdev, 1, VINE_MAX_VECTORS, PCI_IRQ_MSIX);
	if (n < 0)
		return n;
	while (vp->requested < n) {
		struct vine_pci_vector *v = &vp->vector[vp->requested];

		v->vp = vp;
		v->index = vp->requested;
		err = request_irq(pci_irq_vector(pdev, v->index), vine_pci_interrupt, 0,
				  "vine", v);
		if (err) {
			vine_pci_free_irqs(pdev, vp);
			return err;
		}
		/* a hint, not managed affinity: that mutes vectors of absent CPUs */
		cpu = cpumask_local_spread(v->index, dev_to_node(&pdev->dev));
		irq_set_affinity_and_hint(pci_irq_vector(pdev, v->index), cpumask_of(cpu));
		vp->requested++;
	}
	return 0;
}

/*
 * Rings ourselves until it is heard. Again and again: right after a hot plug QEMU
 * drops what it cannot deliver yet.
 */
static bool vine_pci_self_test(struct vine_pci *vp, u32 ivposition)
{
	unsigned int ms;

	for (ms = 0; ms < VINE_SELF_TEST_MS; ms += VINE_SELF_TEST_STEP_MS) {
		writel(ivposition << 16, vp->registers + IVSHMEM_DOORBELL);
		if (wait_for_completion_timeout(&vp->heard,
						msecs_to_jiffies(VINE_SELF_TEST_STEP_MS))) {
			WRITE_ONCE(vp->tested, true);
			return true;
		}
	}
	return false;
}

/* The interrupts, if they work; the device is polled if they do not. */
static void vine_pci_setup_irqs(struct pci_dev *pdev, struct vine_pci *vp)
{
	struct vine_bus *bus = &vp->bus;
	int err;

	bus->kind = VINE_KIND_PLAIN;
	if (!pdev->msix_cap)
		return;
	err = vine_pci_request_irqs(pdev, vp);
	if (err) {
		dev_warn(&pdev->dev, "cannot get interrupts (%d): polling instead\n", err);
		return;
	}
	if (!vine_pci_self_test(vp, bus->ivposition)) {
		dev_warn(&pdev->dev, "no interrupt came in %u ms: polling instead; is the ivshmem server alive, and does it give as many vectors as the device has?\n",
			 VINE_SELF_TEST_MS);
		vine_pci_free_irqs(pdev, vp);
		return;
	}
	bus->kind = VINE_KIND_DOORBELL;
	bus->vectors = vp->requested;
}

static int vine_pci_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct vine_bus *bus;
	struct vine_pci *vp;
	u64 size;
	int err;

	if (pdev->revision < 1) {
		dev_err(&pdev->dev, "ivshmem revision 0 (QEMU before 2.6) is not supported\n");
		return -ENODEV;
	}
	if (!pdev->msix_cap && !vine_plain) {
		dev_info(&pdev->dev, "ivshmem-plain left alone; load vine with plain=1 to use it\n");
		return -ENODEV;
	}
	vp = devm_kzalloc(&pdev->dev, sizeof(*vp), GFP_KERNEL);
	if (!vp)
		return -ENOMEM;
	init_completion(&vp->heard);
	err = pci_enable_device(pdev);
	if (err)
		return err;
	err = pci_request_regions(pdev, "vine");
	if (err)
		goto disable;
	vp->registers = pci_iomap(pdev, IVSHMEM_BAR_REGISTERS, 0);
	if (!vp->registers) {
		err = -ENOMEM;
		goto regions;
	}
	size = pci_resource_len(pdev, IVSHMEM_BAR_MEMORY);
	err = vine_parts_alloc(&vp->parts, &pdev->dev, size);
	if (err)
		goto iounmap;
	bus = &vp->bus;
	bus->priv = vp;
	bus->pfn = vine_pci_pfn;
	bus->doorbell = vine_pci_doorbell;
	bus->ivposition = readl(vp->registers + IVSHMEM_IVPOSITION) & 0xffff;
	bus->unique = pdev->msix_cap;
	vp->memory = pci_resource_start(pdev, IVSHMEM_BAR_MEMORY);
	bus->base = memremap(vp->memory, size, MEMREMAP_WB);
	if (!bus->base) {
		dev_err(&pdev->dev, "cannot map %llu bytes of shared memory\n", size);
		err = -ENOMEM;
		goto free;
	}
	pci_set_master(pdev);
	vine_pci_setup_irqs(pdev, vp);
	err = vine_parts_start(&vp->parts, bus);
	if (err)
		goto irqs;
	pci_set_drvdata(pdev, vp);
	return 0;
irqs:
	vine_pci_free_irqs(pdev, vp);
	pci_clear_master(pdev);
	memunmap(bus->base);
free:
	vine_parts_free(&vp->parts);
iounmap:
	pci_iounmap(pdev, vp->registers);
regions:
	pci_release_regions(pdev);
disable:
	pci_disable_device(pdev);
	return err;
}

static void vine_pci_remove(struct pci_dev *pdev)
{
	struct vine_pci *vp = pci_get_drvdata(pdev);

	if (!vp)	/* it was shut down before */
		return;
	pci_set_drvdata(pdev, NULL);
	vine_parts_stop(&vp->parts);
	vine_pci_free_irqs(pdev, vp);
	vine_parts_leave(&vp->parts);
	pci_clear_master(pdev);
	memunmap(vp->bus.base);
	vine_parts_free(&vp->parts);
	pci_iounmap(pdev, vp->registers);
	pci_release_regions(pdev);
	pci_disable_device(pdev);
}

/* The machine goes down or reboots: the others get back at once what it held. */
static void vine_pci_shutdown(struct pci_dev *pdev)
{
	vine_pci_remove(pdev);
}

static const struct pci_device_id vine_pci_ids[] = {
	{ PCI_DEVICE(PCI_VENDOR_ID_REDHAT_QUMRANET, 0x1110) },
	{}
};
MODULE_DEVICE_TABLE(pci, vine_pci_ids);

static struct pci_driver vine_pci_driver = {
	.name = "vine",
	.id_table = vine_pci_ids,
	.probe = vine_pci_probe,
	.remove = vine_pci_remove,
	.shutdown = vine_pci_shutdown,
};

int vine_pci_init(void)
{
	return pci_register_driver(&vine_pci_driver);
}

void vine_pci_exit(void)
{
	pci_unregister_driver(&vine_pci_driver);
}
